//! The parameters of a call: by position, each read with its name at hand.

use jsonrpsee::{core::RpcResult, types::Params};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::errors::invalid_params;

/// The parameters of one call, read from first to last.
#[derive(Debug)]
pub(crate) struct Args<'a> {
    names: &'static [&'static str],
    values: Vec<&'a RawValue>,
    next: usize,
}

impl<'a> Args<'a> {
    /// Splits `params`, of which there may be as many as there are names.
    ///
    /// # Errors
    /// When they are no array, or too many.
    pub(crate) fn parse(params: &'a Params<'_>, names: &'static [&'static str]) -> RpcResult<Self> {
        let values: Vec<&'a RawValue> = match params.as_str() {
            None | Some("null") => Vec::new(),
            Some(text) => serde_json::from_str(text)
                .map_err(|error| invalid_params(format!("the parameters have to be an array: {error}")))?,
        };
        if values.len() > names.len() {
            let takes = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(invalid_params(format!("{} parameters are too many, the method takes: {takes}", values.len())));
        }
        Ok(Self { names, values, next: 0 })
    }

    /// The next parameter, which has to be there.
    ///
    /// # Errors
    /// When it is absent or malformed.
    pub(crate) fn required<T: DeserializeOwned>(&mut self) -> RpcResult<T> {
        let name = self.name();
        self.optional()?.ok_or_else(|| invalid_params(format!("{name}: missing")))
    }

    /// The next parameter; `None` when it is absent or null.
    ///
    /// # Errors
    /// When it is malformed.
    pub(crate) fn optional<T: DeserializeOwned>(&mut self) -> RpcResult<Option<T>> {
        let name = self.name();
        let value = self.values.get(self.next).copied();
        self.next += 1;
        match value.map(RawValue::get) {
            None | Some("null") => Ok(None),
            Some(text) => serde_json::from_str(text).map(Some).map_err(|error| invalid_params(format!("{name}: {error}"))),
        }
    }

    /// Passes over the next parameter, which other nodes take and this one does not.
    ///
    /// # Errors
    /// When it is there.
    pub(crate) fn unsupported(&mut self) -> RpcResult<()> {
        let name = self.name();
        let value = self.values.get(self.next).copied();
        self.next += 1;
        match value.map(RawValue::get) {
            None | Some("null") => Ok(()),
            Some(_) => Err(invalid_params(format!("{name}: not supported"))),
        }
    }

    fn name(&self) -> &'static str {
        self.names.get(self.next).copied().unwrap_or("parameter")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_null_and_malformed_are_told_apart() {
        let params = Params::new(Some(r#"["0x1", null, 5, true]"#));
        let mut args = Args::parse(&params, &["first", "second", "third", "fourth", "fifth"]).unwrap();
        assert_eq!(args.required::<String>().unwrap(), "0x1");
        assert_eq!(args.optional::<bool>().unwrap(), None);
        let error = args.required::<bool>().unwrap_err();
        assert!(error.message().starts_with("third: invalid type"), "{}", error.message());
        assert_eq!(args.optional::<bool>().unwrap(), Some(true));
        assert_eq!(args.required::<bool>().unwrap_err().message(), "fifth: missing");
    }

    #[test]
    fn no_parameters_may_be_written_in_three_ways() {
        for text in [None, Some("null"), Some("[]")] {
            assert!(Args::parse(&Params::new(text), &[]).is_ok());
        }
        assert!(Args::parse(&Params::new(Some("{}")), &[]).is_err());
        assert!(Args::parse(&Params::new(Some("[1]")), &[]).is_err());
    }
}
