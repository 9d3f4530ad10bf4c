//! Where settings come from: the environment, `.env` below it, files named by `NAME_FILE`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{ConfigError, Result};
use crate::domain::secret::Secret;

/// A set of named values.
#[derive(Clone)]
pub struct Source(BTreeMap<String, String>);

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source(•••)")
    }
}

impl Source {
    /// The process's environment, over the `.env` of the working directory.
    pub fn environment() -> Result<Self> {
        let mut values: BTreeMap<String, String> = BTreeMap::new();
        match dotenvy::from_filename_iter(".env") {
            Ok(lines) => {
                for line in lines {
                    // The error of a line shows the line, which may hold a secret.
                    let (name, value) = line.map_err(|_| ConfigError::new(".env holds a line that cannot be read"))?;
                    values.insert(name, value);
                }
            }
            Err(error) if error.not_found() => {}
            Err(_) => return Err(ConfigError::new(".env cannot be read")),
        }
        for (name, value) in std::env::vars_os() {
            // Names that are not text cannot be ours.
            let (Ok(name), Ok(value)) = (name.into_string(), value.into_string()) else { continue };
            // Either form of a setting in the environment beats both forms in `.env`.
            let plain = name.strip_suffix("_FILE").unwrap_or(&name);
            if value.trim().is_empty() {
                continue;
            }
            values.retain(|known, _| {
                known.strip_suffix("_FILE").unwrap_or(known) != plain || std::env::var_os(known).is_some()
            });
            values.insert(name, value);
        }
        Ok(Self(values))
    }

    /// This source with other values for some names; an empty one takes the name away.
    pub fn with<'a>(&self, changed: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut values = self.0.clone();
        for (name, value) in changed {
            values.remove(&format!("{name}_FILE"));
            values.insert(name.to_owned(), value.to_owned());
        }
        Self(values)
    }

    /// Whether sandboxes are asked for at an address other than Vercel's: a machine there could not
    /// reach what listens here.
    pub fn names_a_stand_in_for_vercel(&self) -> bool {
        let text = |name: &str| self.0.get(name).map(|text| text.trim()).filter(|text| !text.is_empty());
        text("SANDBOX_PROVIDER") == Some("vercel")
            && text("VERCEL_API_URL").is_some_and(|url| !url.contains("://vercel.com") && !url.contains(".vercel.com"))
    }

    /// A plain list, for tests and for programs that start this one.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

pub(super) struct Vars<'a> {
    values: &'a BTreeMap<String, String>,
}

impl<'a> Vars<'a> {
    pub(super) fn new(source: &'a Source) -> Self {
        Self { values: &source.0 }
    }

    fn given(&self, name: &str) -> Option<&'a str> {
        self.values.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// The file that a value is read from.
    pub(super) fn file_of(&self, name: &str) -> Option<PathBuf> {
        if self.given(name).is_some() { None } else { self.given(&format!("{name}_FILE")).map(PathBuf::from) }
    }

    /// The value of `name`, or what the file named by `NAME_FILE` holds. Empty is absent.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>> {
        if let Some(value) = self.given(name) {
            return Ok(Some(value.to_owned()));
        }
        // AGENTS_FILE is a setting of its own, not the file form of one.
        let Some(path) = self.given(&format!("{name}_FILE")) else { return Ok(None) };
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::new(format!("{name}_FILE {path} cannot be read: {error}")))?;
        Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
    }

    pub(super) fn required(&self, name: &str) -> Result<String> {
        self.text(name)?.ok_or_else(|| ConfigError::new(format!("{name} is missing")))
    }

    pub(super) fn number<T>(&self, name: &str, default: T, range: RangeInclusive<T>) -> Result<T>
    where
        T: FromStr + PartialOrd + Display,
    {
        let Some(text) = self.text(name)? else { return Ok(default) };
        text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
            ConfigError::new(format!(
                "{name} is “{text}”; it has to be a number from {} to {}",
                range.start(),
                range.end()
            ))
        })
    }

    /// An http or https address without its trailing slash.
    pub(super) fn url(&self, name: &str) -> Result<Option<String>> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let parsed = url::Url::parse(&text).ok().filter(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        });
        match parsed {
            Some(_) => Ok(Some(text.trim_end_matches('/').to_owned())),
            None => Err(ConfigError::new(format!("{name} has to be an address such as https://example.com"))),
        }
    }

    /// Words by comma, lower case.
    pub(super) fn list(&self, name: &str) -> Result<Option<Vec<String>>> {
        Ok(self.text(name)?.map(|text| {
            text.split(',').map(|word| word.trim().to_ascii_lowercase()).filter(|word| !word.is_empty()).collect()
        }))
    }

    /// Secrets by comma: the new one first, the old one while it is replaced.
    pub(super) fn secrets(&self, name: &str) -> Result<Vec<Secret>> {
        let text = self.text(name)?.unwrap_or_default();
        Ok(text.split(',').map(str::trim).filter(|secret| !secret.is_empty()).map(Secret::new).collect())
    }
}

/// Keys in PEM form, as they are, with `\n` written out, or as base64 of the whole; several by comma.
pub(super) fn pem_keys(text: &str) -> Result<Vec<Secret>> {
    let fault = || ConfigError::new("GITHUB_APP_PRIVATE_KEY has to be a private key in PEM form, or base64 of one");
    let mut keys = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let pem = if part.contains("-----BEGIN") {
            part.replace("\\n", "\n")
        } else {
            let bytes = STANDARD.decode(part.split_whitespace().collect::<String>()).map_err(|_| fault())?;
            String::from_utf8(bytes).map_err(|_| fault())?
        };
        if !pem.contains("PRIVATE KEY-----") {
            return Err(fault());
        }
        keys.push(Secret::new(pem));
    }
    if keys.is_empty() { Err(fault()) } else { Ok(keys) }
}
