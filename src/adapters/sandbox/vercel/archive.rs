//! Files on their way into a sandbox: one gzipped ustar archive, unpacked at `/`.

use std::io::{self, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;

/// A file by its path in the sandbox.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    /// Without a leading slash.
    pub path: String,
    pub mode: u32,
    pub bytes: &'a [u8],
}

/// Packs files. Paths that the ustar header cannot hold go into a PAX record before it: GNU's own
/// way for long names is not known to be understood.
pub(super) fn pack(entries: &[Entry<'_>]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for entry in entries {
        let mut header = tar::Header::new_ustar();
        header.set_size(entry.bytes.len() as u64);
        header.set_mode(entry.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        if !entry.path.is_ascii() || header.set_path(&entry.path).is_err() {
            archive.append_pax_extensions([("path", entry.path.as_bytes())])?;
            header.set_path("long-name")?;
        }
        header.set_cksum();
        archive.append(&header, entry.bytes)?;
    }
    let mut packed = archive.into_inner()?;
    packed.flush()?;
    packed.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn long_and_foreign_names_arrive() {
        let long = format!("vercel/{}/{}.txt", "d".repeat(120), "n".repeat(140));
        let paths = ["vercel/sandbox/a.txt".to_owned(), long, "vercel/sandbox/ünï.txt".to_owned()];
        let entries: Vec<Entry<'_>> =
            paths.iter().map(|path| Entry { path: path.clone(), mode: 0o755, bytes: path.as_bytes() }).collect();
        let packed = pack(&entries).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&packed[..]));
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            assert_eq!(entry.header().mode().unwrap(), 0o755);
            let mut text = String::new();
            let path = entry.path().unwrap().display().to_string();
            entry.read_to_string(&mut text).unwrap();
            assert_eq!(text, path);
            found.push(path);
        }
        assert_eq!(found, paths);
    }
}
