//! Keys, signatures and tokens, checked as GitHub checks them.

use std::collections::BTreeMap;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::domain::ids::Millis;
use crate::domain::secret::Secret;

pub(super) struct AppKeys {
    pub private_pem: Secret,
    public: Vec<u8>,
}

impl std::fmt::Debug for AppKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AppKeys(•••)")
    }
}

impl AppKeys {
    pub(super) fn generate() -> std::io::Result<Self> {
        let failed = |_| std::io::Error::other("no RSA key could be made");
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
        let der: Pkcs8V1Der<'_> = pair.as_der().map_err(failed)?;
        let text = STANDARD.encode(der.as_ref());
        let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
        Ok(Self { private_pem: Secret::new(pem), public: pair.public_key().as_ref().to_vec() })
    }

    /// Checks a token of the App: its signature, its age, whose it is.
    pub(super) fn check_app_token(&self, token: &str, app_id: i64, now: Millis) -> Result<(), &'static str> {
        let (message, signature) = token.rsplit_once('.').ok_or("not a JWT")?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| "not a JWT")?;
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public)
            .verify(message.as_bytes(), &signature)
            .map_err(|_| "the JWT is not signed by the App")?;
        let claims = message.split_once('.').ok_or("not a JWT")?.1;
        let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| "not a JWT")?;
        let claims: serde_json::Value = serde_json::from_slice(&claims).map_err(|_| "not a JWT")?;
        let number = |name: &str| claims.get(name).and_then(serde_json::Value::as_i64);
        let (issued, expires) = (number("iat").ok_or("no iat")?, number("exp").ok_or("no exp")?);
        let now = now.0 / 1000;
        if issued > now {
            return Err(
                "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
            );
        }
        if expires <= now || expires > now + 600 {
            return Err("'Expiration time' claim ('exp') is too far in the future");
        }
        let issuer = claims.get("iss").map(|iss| iss.as_str().map_or_else(|| iss.to_string(), ToOwned::to_owned));
        if issuer.as_deref() == Some(app_id.to_string().as_str()) { Ok(()) } else { Err("another App's token") }
    }
}

/// An installation token: which repositories and what it may do there.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub installation: i64,
    pub repositories: Vec<i64>,
    pub permissions: BTreeMap<String, String>,
    pub expires: Millis,
}

impl Token {
    /// Whether `write` or `read` of a permission was given.
    pub(super) fn allows(&self, permission: &str, level: &str) -> bool {
        match self.permissions.get(permission).map(String::as_str) {
            Some("write") => true,
            Some("read") => level == "read",
            _ => false,
        }
    }
}

/// The header `X-Hub-Signature-256` of a body.
pub(super) fn webhook_signature(secret: &Secret, body: &[u8]) -> String {
    let signed = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).map(|mut signer| {
        signer.update(body);
        hex::encode(signer.finalize().into_bytes())
    });
    format!("sha256={}", signed.unwrap_or_default())
}
