//! The output of a command, read from its files while they grow.

use std::io;
use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::{LocalSandbox, POLL, failed, supervisor};
use crate::domain::run::SandboxId;
use crate::ports::sandbox::{CommandId, CommandStatus, Output, OutputKind, Result, Sandbox as _};

const CHUNK_BYTES: usize = 64 * 1024;

/// Reads the output files of a command as they grow.
pub(super) struct Follow<'a> {
    sandbox: &'a LocalSandbox,
    id: &'a SandboxId,
    command: &'a CommandId,
    at: [u64; 2],
    /// The command has ended: what is in the files now is all there will be.
    last_look: bool,
}

impl<'a> Follow<'a> {
    pub(super) fn new(sandbox: &'a LocalSandbox, id: &'a SandboxId, command: &'a CommandId) -> Self {
        Self { sandbox, id, command, at: [0, 0], last_look: false }
    }

    pub(super) async fn next(mut self) -> Result<Option<(Output, Self)>> {
        let dir = self.sandbox.command_dir(self.id, &self.command.0)?;
        loop {
            for (index, kind) in [OutputKind::Stdout, OutputKind::Stderr].into_iter().enumerate() {
                let bytes = read_from(&dir.join(supervisor::output_name(kind)), self.at[index]).await?;
                if !bytes.is_empty() {
                    self.at[index] += bytes.len() as u64;
                    return Ok(Some((Output { kind, bytes }, self)));
                }
            }
            if self.last_look {
                return Ok(None);
            }
            if self.sandbox.status(self.id, self.command).await? == CommandStatus::Running {
                tokio::time::sleep(POLL).await;
            } else {
                self.last_look = true;
            }
        }
    }
}

async fn read_from(path: &Path, at: u64) -> Result<Vec<u8>> {
    let mut file = match tokio::fs::File::open(path).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("cannot read the output")(error)),
    };
    file.seek(io::SeekFrom::Start(at)).await.map_err(failed("cannot read the output"))?;
    let mut bytes = Vec::with_capacity(4096);
    file.take(CHUNK_BYTES as u64).read_to_end(&mut bytes).await.map_err(failed("cannot read the output"))?;
    Ok(bytes)
}
