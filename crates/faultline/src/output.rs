//! Files that reports go to: they get their name when they are whole.
//!
//! Until then the bytes are in a file beside it, whose name begins with a dot and ends in `.new`; a
//! kill leaves that one, and what had the name before. What is no regular file (a terminal, a
//! pipe, a device) is written as it is.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// A file that is being written, until it gets its name.
#[derive(Debug)]
pub(crate) struct Name {
    /// Where it is, and where it goes.
    unfinished: Option<(PathBuf, PathBuf)>,
}

impl Name {
    /// Gives the file its name, in place of what has it.
    ///
    /// # Errors
    /// The host refuses: the file is gone then, and what had the name still has it.
    pub(crate) fn give(mut self) -> io::Result<()> {
        let Some((temporary, path)) = self.unfinished.take() else { return Ok(()) };
        let given = fs::rename(&temporary, path);
        if given.is_err() {
            let _the_first_error_is_told = fs::remove_file(temporary);
        }
        given
    }
}

impl Drop for Name {
    /// A file that was not finished goes.
    fn drop(&mut self) {
        if let Some((temporary, _)) = self.unfinished.take() {
            let _nobody_to_tell = fs::remove_file(temporary);
        }
    }
}

/// Makes a file that will be at `path`, over whatever is there.
///
/// # Errors
/// The host refuses; nothing has changed.
pub(crate) fn create(path: &Path) -> io::Result<(File, Name)> {
    let as_it_is = |path: &Path| Ok((File::create(path)?, Name { unfinished: None }));
    // A link goes on to lead to the file.
    let (path, old) = match fs::metadata(path) {
        Ok(old) if !old.is_file() => return as_it_is(path),
        Ok(old) => {
            File::options().write(true).open(path)?;
            (fs::canonicalize(path)?, Some(old))
        }
        Err(error) if error.kind() == ErrorKind::NotFound && !path.is_symlink() => {
            (path.to_owned(), None)
        }
        Err(_) => return as_it_is(path),
    };
    let temporary = temporary_name(&path)?;
    let file = match File::create(&temporary) {
        Ok(file) => file,
        // The directory takes no new file, but this one may be written.
        Err(_) if old.is_some() => return as_it_is(&path),
        Err(error) => return Err(error),
    };
    let name = Name { unfinished: Some((temporary, path)) };
    if let Some(old) = old {
        file.set_permissions(old.permissions())?;
    }
    Ok((file, name))
}

/// The name that a file has in its directory before it is whole.
///
/// # Errors
/// The path has no last part.
pub(crate) fn temporary_name(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.new", std::process::id()));
    Ok(path.with_file_name(temporary))
}
