//! A copy of a SQLite database, consistent while the service runs.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use super::{Db, Result, Store, StoreError};

impl Store {
    /// Writes the whole database into a new file that only its owner can read, and reads it back. Gives its size
    /// in bytes. The error is one sentence for the operator.
    pub async fn back_up(&self, file: &Path) -> Result<u64> {
        let failed =
            |what: &str, error: &dyn std::fmt::Display| StoreError::Open(format!("{} {what}: {error}", file.display()));
        let Db::Lite { write, .. } = &self.db else {
            return Err(StoreError::Open("this is PostgreSQL: back it up with pg_dump".to_owned()));
        };
        let Some(name) = file.to_str() else {
            return Err(failed("cannot be used", &"a file name that is no text"));
        };
        if file.try_exists().map_err(|error| failed("cannot be looked at", &error))? {
            return Err(failed("cannot be made", &"there is a file of this name"));
        }
        // Half a backup, of a run that was broken off, must not be taken for one.
        let (half, half_name) = (Path::new(&format!("{name}.partial")).to_owned(), format!("{name}.partial"));
        let _ = std::fs::remove_file(&half);
        // VACUUM INTO writes into an empty file.
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&half)
            .map_err(|error| failed("cannot be made", &error))?;
        let copied = sqlx::query("VACUUM INTO $1").bind(half_name).execute(write).await;
        let checked = match copied {
            Ok(_) => check(&half).await,
            Err(error) => Err(error),
        };
        let done = match checked {
            Ok(said) if said == "ok" => put_in_place(&half, file).map_err(|error| failed("is not on the disk", &error)),
            Ok(said) => Err(failed("would be damaged", &said)),
            Err(error) => Err(failed("could not be written", &error)),
        };
        if done.is_err() {
            let _ = std::fs::remove_file(&half);
        }
        done
    }
}

/// Gives the size in bytes.
fn put_in_place(half: &Path, file: &Path) -> std::io::Result<u64> {
    let copy = std::fs::File::open(half)?;
    copy.sync_all()?;
    std::fs::rename(half, file)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()?;
    Ok(copy.metadata()?.len())
}

async fn check(file: &Path) -> sqlx::Result<String> {
    let mut copy = SqliteConnectOptions::new().filename(file).read_only(true).immutable(true).connect().await?;
    let said = sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut copy).await?;
    copy.close().await?;
    Ok(said)
}
