//! Seals what must not lie open in the database: AES-256-GCM with a fresh nonce, bound to the row it
//! is for. The first key of the ring seals, all of them open.

use std::path::Path;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead as _, KeyInit as _, Nonce, Payload};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::domain::secret::Secret;

/// Before the key's id and the sealed bytes.
const VERSION: &str = "v1";
const NONCE_BYTES: usize = 12;
const ID_DIGITS: usize = 8;
/// `v1.`, the key's id and a dot.
const HEAD_BYTES: usize = VERSION.len() + ID_DIGITS + 2;
const KEY_FILE: &str = "encryption.key";

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    #[error("an encryption key has to be 64 hex digits")]
    BadKey,
    /// Cut, changed, of another row, or sealed with a key that is not in the ring.
    #[error("a sealed value cannot be opened")]
    Closed,
}

pub struct Vault {
    ring: Vec<(String, Aes256Gcm)>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.ring.iter().map(|(id, _)| id)).finish()
    }
}

impl Vault {
    /// `keys`: 64 hex digits each, the one that seals first.
    pub fn new(keys: &[Secret]) -> Result<Self, VaultError> {
        let ring: Vec<(String, Aes256Gcm)> = keys
            .iter()
            .map(|key| {
                let bytes: [u8; 32] =
                    hex::decode(key.expose()).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(VaultError::BadKey)?;
                let id = hex::encode(Sha256::digest(bytes)).get(..ID_DIGITS).unwrap_or_default().to_owned();
                Ok((id, Aes256Gcm::new(&bytes.into())))
            })
            .collect::<Result<_, VaultError>>()?;
        if ring.is_empty() { Err(VaultError::BadKey) } else { Ok(Self { ring }) }
    }

    /// `bound_to`: the row and what the value is there; the same words are needed to open it.
    /// `random`: fresh for every call.
    pub fn seal(&self, bound_to: &str, secret: &Secret, random: [u8; 32]) -> Result<String, VaultError> {
        let (id, sealed) = self.encrypt(bound_to, secret.expose().as_bytes(), random)?;
        Ok(format!("{VERSION}.{id}.{}", STANDARD_NO_PAD.encode(sealed)))
    }

    pub fn open(&self, bound_to: &str, sealed: &str) -> Result<Secret, VaultError> {
        let (id, text) = parts(sealed).ok_or(VaultError::Closed)?;
        let bytes = STANDARD_NO_PAD.decode(text).map_err(|_| VaultError::Closed)?;
        String::from_utf8(self.decrypt(id, bound_to, &bytes)?).map(Secret::new).map_err(|_| VaultError::Closed)
    }

    /// The same for what is no text.
    pub fn seal_bytes(&self, bound_to: &str, bytes: &[u8], random: [u8; 32]) -> Result<Vec<u8>, VaultError> {
        let (id, sealed) = self.encrypt(bound_to, bytes, random)?;
        Ok([format!("{VERSION}.{id}.").as_bytes(), &sealed].concat())
    }

    pub fn open_bytes(&self, bound_to: &str, sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
        let (head, body) = sealed.split_at_checked(HEAD_BYTES).ok_or(VaultError::Closed)?;
        let (id, _) = std::str::from_utf8(head).ok().and_then(parts).ok_or(VaultError::Closed)?;
        self.decrypt(id, bound_to, body)
    }

    /// Seals anew what another key sealed. `None`: the first key did already.
    pub fn reseal(&self, bound_to: &str, sealed: &str, random: [u8; 32]) -> Result<Option<String>, VaultError> {
        let opened = self.open(bound_to, sealed)?;
        if self.is_current(sealed) { Ok(None) } else { self.seal(bound_to, &opened, random).map(Some) }
    }

    /// The same for what is no text.
    pub fn reseal_bytes(&self, bound_to: &str, sealed: &[u8], random: [u8; 32]) -> Result<Option<Vec<u8>>, VaultError> {
        let opened = self.open_bytes(bound_to, sealed)?;
        let head = sealed.get(..HEAD_BYTES).and_then(|head| std::str::from_utf8(head).ok());
        match head.is_some_and(|head| self.is_current(head)) {
            true => Ok(None),
            false => self.seal_bytes(bound_to, &opened, random).map(Some),
        }
    }

    fn encrypt(&self, bound_to: &str, bytes: &[u8], random: [u8; 32]) -> Result<(&str, Vec<u8>), VaultError> {
        let (id, cipher) = self.ring.first().ok_or(VaultError::BadKey)?;
        let nonce = random.first_chunk::<NONCE_BYTES>().ok_or(VaultError::Closed)?;
        let aad = aad(id, bound_to);
        let payload = Payload { msg: bytes, aad: aad.as_bytes() };
        let sealed = cipher.encrypt(&Nonce::<Aes256Gcm>::from(*nonce), payload).map_err(|_| VaultError::Closed)?;
        Ok((id, [nonce.as_slice(), &sealed].concat()))
    }

    fn decrypt(&self, id: &str, bound_to: &str, bytes: &[u8]) -> Result<Vec<u8>, VaultError> {
        let (_, cipher) = self.ring.iter().find(|(known, _)| known == id).ok_or(VaultError::Closed)?;
        let (nonce, msg) = bytes.split_first_chunk::<NONCE_BYTES>().ok_or(VaultError::Closed)?;
        let aad = aad(id, bound_to);
        cipher
            .decrypt(&Nonce::<Aes256Gcm>::from(*nonce), Payload { msg, aad: aad.as_bytes() })
            .map_err(|_| VaultError::Closed)
    }

    /// Whether the first key sealed it.
    fn is_current(&self, sealed: &str) -> bool {
        let id = sealed.split('.').nth(1);
        self.ring.first().is_some_and(|(first, _)| Some(first.as_str()) == id)
    }
}

/// Key id and the rest of `v1.<id>.<rest>`.
fn parts(sealed: &str) -> Option<(&str, &str)> {
    sealed.strip_prefix(VERSION)?.strip_prefix('.')?.split_once('.').filter(|(id, _)| id.len() == ID_DIGITS)
}

fn aad(key_id: &str, bound_to: &str) -> String {
    format!("hireling/{VERSION}/{key_id}/{bound_to}")
}

/// What is kept of a secret that only ever has to be recognised. It must be random and long.
pub fn hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret))
}

/// Tells secrets apart without showing anything of them.
pub fn fingerprint(secret: &Secret) -> String {
    let hash = Sha256::new_with_prefix("hireling fingerprint ").chain_update(secret.expose()).finalize();
    hex::encode(hash).get(..12).unwrap_or_default().to_owned()
}

/// Whether others on this machine can read a file.
pub fn is_open_to_others(file: &Path) -> std::io::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::metadata(file)?.permissions().mode() & 0o077 != 0)
}

/// The key kept beside a database of one machine; `None`: there is none. The error is one sentence for the operator.
pub fn key_found_beside(data_dir: &Path) -> Result<Option<Secret>, String> {
    let path = data_dir.join(KEY_FILE);
    let failed = |error: std::io::Error| format!("the encryption key {} cannot be used: {error}", path.display());
    match is_open_to_others(&path) {
        Ok(false) => Ok(Some(Secret::new(std::fs::read_to_string(&path).map_err(failed)?.trim()))),
        Ok(true) => Err(format!("{} can be read by others: `chmod 600` it", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// The key kept beside a database of one machine; made when it is not there. The error is one
/// sentence for the operator.
pub fn key_beside(data_dir: &Path, random: [u8; 32]) -> Result<Secret, String> {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    if let Some(key) = key_found_beside(data_dir)? {
        return Ok(key);
    }
    let path = data_dir.join(KEY_FILE);
    let failed = |error: std::io::Error| format!("the encryption key {} cannot be made: {error}", path.display());
    std::fs::create_dir_all(data_dir).map_err(failed)?;
    // Whole, or not there at all: of two that begin at once, both use the one that is first.
    let mut file = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o600))
        .tempfile_in(data_dir)
        .map_err(failed)?;
    let key = Secret::new(hex::encode(random));
    file.write_all(key.expose().as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    match file.persist_noclobber(&path) {
        Ok(_) => Ok(key),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
            key_found_beside(data_dir)?.ok_or_else(|| failed(error.error))
        }
        Err(error) => Err(failed(error.error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(keys: &[char]) -> Vault {
        let keys: Vec<Secret> = keys.iter().map(|digit| Secret::new(digit.to_string().repeat(64))).collect();
        Vault::new(&keys).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_in_its_own_place_only() {
        let vault = vault(&['1']);
        let sealed = vault.seal("keys/a", &Secret::new("sk-ant-1"), [7; 32]).unwrap();
        assert_eq!(vault.open("keys/a", &sealed).unwrap().expose(), "sk-ant-1");
        assert_eq!(vault.open("keys/b", &sealed), Err(VaultError::Closed));
        assert!(!sealed.contains("sk-ant"));
    }

    #[test]
    fn what_was_changed_or_cut_stays_closed() {
        let vault = vault(&['1']);
        let sealed = vault.seal("keys/a", &Secret::new("sk-ant-1"), [7; 32]).unwrap();
        for at in 0..sealed.len() {
            let cut = &sealed[..at];
            assert_eq!(vault.open("keys/a", cut), Err(VaultError::Closed), "{cut}");
            let mut flipped = sealed.clone().into_bytes();
            flipped[at] ^= 1;
            let flipped = String::from_utf8(flipped).unwrap();
            assert_eq!(vault.open("keys/a", &flipped), Err(VaultError::Closed), "{flipped}");
        }
    }

    #[test]
    fn an_old_key_opens_and_the_first_seals() {
        let old = vault(&['1']).seal("keys/a", &Secret::new("sk"), [1; 32]).unwrap();
        let both = vault(&['2', '1']);
        assert!(!both.is_current(&old));
        let opened = both.open("keys/a", &old).unwrap();
        let new = both.seal("keys/a", &opened, [2; 32]).unwrap();
        assert!(both.is_current(&new));
        assert_eq!(vault(&['2']).open("keys/a", &new).unwrap().expose(), "sk");
        assert_eq!(vault(&['2']).open("keys/a", &old), Err(VaultError::Closed));
    }

    #[test]
    fn what_is_no_text_is_sealed_alike() {
        let vault = vault(&['1']);
        let sealed = vault.seal_bytes("conversations/a", &[0, 159, 255], [7; 32]).unwrap();
        assert_eq!(vault.open_bytes("conversations/a", &sealed).unwrap(), [0, 159, 255]);
        for (place, bytes) in
            [("conversations/b", &sealed[..]), ("conversations/a", &sealed[..20]), ("conversations/a", &[])]
        {
            assert_eq!(vault.open_bytes(place, bytes), Err(VaultError::Closed));
        }
    }

    #[test]
    fn of_many_who_make_the_key_at_once_all_use_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        let made: Vec<Secret> = std::thread::scope(|scope| {
            let makers: Vec<_> = (0..16).map(|n| scope.spawn(move || key_beside(at, [n; 32]).unwrap())).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        assert!(made.iter().all(|key| *key == made[0]));
    }

    #[test]
    fn the_key_beside_a_database_is_made_once_and_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let made = key_beside(dir.path(), [3; 32]).unwrap();
        assert_eq!(key_beside(dir.path(), [4; 32]).unwrap(), made);
        let path = dir.path().join(KEY_FILE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(key_beside(dir.path(), [5; 32]).unwrap_err().contains("chmod 600"));
    }
}
