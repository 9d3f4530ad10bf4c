//! Reading a webhook's body within one memory budget: GitHub sends up to 25 MB, and many at once.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use memmap2::MmapMut;
use tokio::sync::{Semaphore, SemaphorePermit};

/// GitHub's cap with a margin. Larger ones are refused before they are read.
pub const MAX_BODY: usize = 25 * 1024 * 1024;
/// Bodies up to this size share the small budget; above it they take one of the large places.
const SMALL: usize = 1024 * 1024;
const SMALL_BUDGET_KIB: usize = 16 * 1024;
const LARGE_PLACES: usize = 2;
/// Room is taken in pieces of this many bytes.
const STEP: usize = 16 * 1024;
/// A sender who is silent for this long is cut off.
const SILENCE: Duration = Duration::from_secs(5);
/// The whole body has to be here by then.
const TOTAL: Duration = Duration::from_secs(10);
/// How long a body waits for room.
const WAIT_FOR_ROOM: Duration = Duration::from_secs(4);

#[derive(Debug)]
pub struct BodyBudget {
    small: Semaphore,
    large: Semaphore,
}

impl Default for BodyBudget {
    fn default() -> Self {
        Self { small: Semaphore::new(SMALL_BUDGET_KIB), large: Semaphore::new(LARGE_PLACES) }
    }
}

/// A body and the room it takes; the room is free again when this is dropped.
#[derive(Debug)]
pub struct Held<'a> {
    pub bytes: Bytes,
    _room: Room<'a>,
}

#[derive(Debug, Default)]
struct Room<'a> {
    small: Option<SemaphorePermit<'a>>,
    large: Option<SemaphorePermit<'a>>,
}

/// What has arrived of a body.
enum Kept {
    Small(Vec<u8>),
    /// In pages of its own that are gone with it: an allocator would keep some of so much for the next one, in each of
    /// its arenas.
    Large(Pages),
}

struct Pages {
    pages: MmapMut,
    length: usize,
}

impl AsRef<[u8]> for Pages {
    fn as_ref(&self) -> &[u8] {
        self.pages.get(..self.length).unwrap_or(&[])
    }
}

impl Kept {
    fn len(&self) -> usize {
        match self {
            Self::Small(bytes) => bytes.len(),
            Self::Large(pages) => pages.length,
        }
    }

    /// With one more piece. All pieces together are not more than `MAX_BODY`.
    fn and(self, piece: &[u8], is_large: bool) -> Result<Self, BodyError> {
        let mut pages = match self {
            Self::Small(mut bytes) if !is_large => {
                bytes.extend_from_slice(piece);
                return Ok(Self::Small(bytes));
            }
            Self::Small(bytes) => {
                // What is not written to takes no memory.
                let pages = MmapMut::map_anon(MAX_BODY).map_err(|_| BodyError::NoRoom)?;
                Pages { pages, length: 0 }.with(&bytes)?
            }
            Self::Large(pages) => pages,
        };
        pages = pages.with(piece)?;
        Ok(Self::Large(pages))
    }
}

impl Pages {
    fn with(mut self, piece: &[u8]) -> Result<Self, BodyError> {
        let length = self.length + piece.len();
        self.pages.get_mut(self.length..length).ok_or(BodyError::TooLarge)?.copy_from_slice(piece);
        self.length = length;
        Ok(self)
    }
}

impl From<Kept> for Bytes {
    fn from(kept: Kept) -> Self {
        match kept {
            Kept::Small(bytes) => Self::from(bytes),
            Kept::Large(pages) => Self::from_owner(pages),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    TooLarge,
    /// The sender was too slow or went away.
    Broken,
    NoRoom,
}

impl BodyBudget {
    /// Reads a body; `seen` gets every piece as it arrives, so hashing needs no second pass.
    pub async fn read(
        &self,
        body: Body,
        announced: Option<usize>,
        mut seen: impl FnMut(&[u8]),
    ) -> Result<Held<'_>, BodyError> {
        if announced.is_some_and(|length| length > MAX_BODY) {
            return Err(BodyError::TooLarge);
        }
        let mut room = Room::default();
        let deadline = tokio::time::Instant::now() + TOTAL;
        // Room is taken as bytes arrive: an announcement alone holds nothing.
        let mut bytes = Kept::Small(Vec::new());
        let mut body = body;
        loop {
            let patience = SILENCE.min(deadline.saturating_duration_since(tokio::time::Instant::now()));
            let frame = match tokio::time::timeout(patience, body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => break,
                Ok(Some(Err(_))) | Err(_) => return Err(BodyError::Broken),
            };
            let Ok(piece) = frame.into_data() else { continue };
            if bytes.len() + piece.len() > MAX_BODY {
                return Err(BodyError::TooLarge);
            }
            self.reserve(&mut room, bytes.len() + piece.len()).await?;
            seen(&piece);
            bytes = bytes.and(&piece, room.large.is_some())?;
        }
        Ok(Held { bytes: bytes.into(), _room: room })
    }

    /// Makes sure that `room` is enough for `length` bytes.
    async fn reserve<'a>(&'a self, room: &mut Room<'a>, length: usize) -> Result<(), BodyError> {
        if room.large.is_some() {
            return Ok(());
        }
        if length > SMALL {
            let place = tokio::time::timeout(WAIT_FOR_ROOM, self.large.acquire()).await;
            room.large = Some(place.map_err(|_| BodyError::NoRoom)?.map_err(|_| BodyError::NoRoom)?);
            room.small = None;
            return Ok(());
        }
        let wanted = length.div_ceil(STEP).max(1) * (STEP / 1024);
        let has = room.small.as_ref().map_or(0, SemaphorePermit::num_permits);
        if wanted > has {
            let more = u32::try_from(wanted - has).unwrap_or(u32::MAX);
            let permit = tokio::time::timeout(WAIT_FOR_ROOM, self.small.acquire_many(more)).await;
            let permit = permit.map_err(|_| BodyError::NoRoom)?.map_err(|_| BodyError::NoRoom)?;
            match &mut room.small {
                Some(held) => held.merge(permit),
                none => *none = Some(permit),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_seen_piece_by_piece_and_kept_whole() {
        let budget = BodyBudget::default();
        let mut seen = Vec::new();
        let held = budget.read(Body::from("hello"), Some(5), |piece| seen.extend_from_slice(piece)).await.unwrap();
        assert_eq!((held.bytes.as_ref(), seen.as_slice()), (&b"hello"[..], &b"hello"[..]));
    }

    #[tokio::test]
    async fn a_long_body_is_kept_whole_too() {
        let budget = BodyBudget::default();
        let long: Vec<u8> = (0..MAX_BODY).map(|at| (at % 251) as u8).collect();
        let pieces = long.chunks(300_007).map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)));
        let body = Body::from_stream(futures::stream::iter(pieces.collect::<Vec<_>>()));
        let held = budget.read(body, None, |_| {}).await.unwrap();
        assert!(held.bytes == long);
    }

    #[tokio::test]
    async fn too_much_is_refused_whether_announced_or_not() {
        let budget = BodyBudget::default();
        let refused = budget.read(Body::empty(), Some(MAX_BODY + 1), |_| {}).await.unwrap_err();
        assert_eq!(refused, BodyError::TooLarge);
        let long = Body::from(vec![b'x'; MAX_BODY + 1]);
        assert_eq!(budget.read(long, None, |_| {}).await.unwrap_err(), BodyError::TooLarge);
    }

    #[tokio::test]
    async fn room_is_given_back() {
        let budget = BodyBudget::default();
        for _ in 0..5 {
            let held = budget.read(Body::from(vec![b'x'; 2 * SMALL]), None, |_| {}).await.unwrap();
            assert_eq!(budget.large.available_permits(), LARGE_PLACES - 1);
            drop(held);
        }
        assert_eq!(budget.large.available_permits(), LARGE_PLACES);
        assert_eq!(budget.small.available_permits(), SMALL_BUDGET_KIB);
    }
}
