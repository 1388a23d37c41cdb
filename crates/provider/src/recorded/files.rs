//! Folders of recordings: each is there as a whole, or not at all.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use super::RecordedError;

/// Writes a folder `name` in `parent`: first under a hidden name, then at its place. `files` are paths inside the folder with
/// their contents. An existing folder is replaced only with `force`.
///
/// # Errors
/// When the folder is there already, or the disk refuses.
pub fn write_folder(parent: &Path, name: &str, files: &[(String, Vec<u8>)], force: bool) -> Result<PathBuf, RecordedError> {
    let target = parent.join(name);
    if target.exists() && !force {
        return Err(RecordedError::Exists(target));
    }
    let unwritable = |error: io::Error| RecordedError::Unwritable { folder: target.clone(), cause: error.to_string() };
    let fresh = parent.join(format!(".{name}.new"));
    let old = parent.join(format!(".{name}.old"));
    // What an earlier process left when it was killed.
    for left in [&fresh, &old] {
        remove(left).map_err(unwritable)?;
    }
    for (file, bytes) in files {
        let path = fresh.join(file);
        fs::create_dir_all(path.parent().unwrap_or(&fresh)).map_err(unwritable)?;
        fs::write(&path, bytes).map_err(unwritable)?;
    }
    if target.exists() {
        fs::rename(&target, &old).map_err(unwritable)?;
    }
    if let Err(error) = fs::rename(&fresh, &target) {
        if old.exists() {
            fs::rename(&old, &target).map_err(unwritable)?;
        }
        return Err(unwritable(error));
    }
    remove(&old).map_err(unwritable)?;
    Ok(target)
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// JSON for people, with a line end.
pub(super) fn json<T: Serialize>(file: &'static str, value: &T) -> Result<Vec<u8>, RecordedError> {
    let mut bytes =
        serde_json::to_vec_pretty(value).map_err(|error| RecordedError::Unreadable { file, cause: error.to_string() })?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// A file of a folder, which has to be there.
pub(super) fn read_json<T: DeserializeOwned>(folder: &Path, file: &'static str) -> Result<T, RecordedError> {
    let text = fs::read(folder.join(file)).map_err(|error| unreadable(file, &error))?;
    serde_json::from_slice(&text).map_err(|error| unreadable(file, &error))
}

/// A file of a folder; `None` when it is not there.
pub(super) fn read_json_if_any<T: DeserializeOwned>(folder: &Path, file: &'static str) -> Result<Option<T>, RecordedError> {
    match fs::read(folder.join(file)) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| unreadable(file, &error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(file, &error)),
    }
}

fn unreadable(file: &'static str, error: &dyn std::error::Error) -> RecordedError {
    RecordedError::Unreadable { file, cause: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_replaced_only_when_that_is_wanted() {
        let parent = std::env::temp_dir().join(format!("lockstep-folder-{}", std::process::id()));
        let files = |text: &str| vec![("a.json".to_owned(), text.into()), ("b/c.json".to_owned(), text.into())];
        let folder = write_folder(&parent, "one", &files("first"), false).unwrap();
        assert!(matches!(write_folder(&parent, "one", &files("second"), false), Err(RecordedError::Exists(_))));
        assert_eq!(fs::read(folder.join("b/c.json")).unwrap(), b"first");
        write_folder(&parent, "one", &files("third"), true).unwrap();
        assert_eq!(fs::read(folder.join("a.json")).unwrap(), b"third");
        let left: Vec<_> = fs::read_dir(&parent).unwrap().flatten().map(|entry| entry.file_name()).collect();
        fs::remove_dir_all(&parent).unwrap();
        assert_eq!(left, ["one"], "nothing hidden is left");
    }
}
