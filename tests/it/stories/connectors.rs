//! Connectors as they are kept: what an edit keeps, what an attacker with the database gets, which
//! addresses are refused.

use std::sync::Arc;

use hireling::adapters::store::{Conversation, Store};
use hireling::adapters::vault::Vault;
use hireling::app::App;
use hireling::app::connectors::ConnectorError;
use hireling::app::keys::Rotated;
use hireling::domain::connector::{Connector, Protocol, Secrets, Transport};
use hireling::domain::ids::{InstallationId, Millis, TaskId, UserId};
use hireling::domain::key::KeyOwner;
use hireling::domain::secret::Secret;

use crate::support::world::{Engine, PERSON, World};

const MARIA: UserId = UserId(7);
const OWNER: KeyOwner = KeyOwner::Person(MARIA);

/// Two digits of the encryption keys, the world's first.
const OLD: &str = "5e";
const NEW: &str = "6f";

fn vault(digits: &str) -> Vault {
    Vault::new(&[Secret::new(digits.repeat(32))]).unwrap()
}

fn opens(digits: &str, connector: &Connector) -> bool {
    vault(digits).open(&connector.bound_to(), &connector.sealed).is_ok()
}

fn remote(url: &str) -> Transport {
    let headers = [("Authorization".to_owned(), "Bearer ${KEY}".to_owned())].into();
    Transport::Remote { url: url.to_owned(), protocol: Protocol::Http, headers }
}

fn secrets(pairs: &[(&str, &str)]) -> Secrets {
    Secrets(pairs.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect())
}

async fn save(app: &Arc<App>, transport: Transport, given: Secrets) -> Result<Connector, ConnectorError> {
    app.save_connector(OWNER, "linear", transport, given, MARIA).await
}

async fn kept(store: &Store) -> Vec<Connector> {
    store.connectors_of(MARIA, InstallationId(1)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_keeps_the_secrets_unless_it_leads_elsewhere() {
    for engine in Engine::both() {
        let Some(world) = World::start(engine).await else { continue };
        let app = world.app(&[]).await;
        let first = save(&app, remote("https://mcp.linear.app/mcp"), secrets(&[("KEY", "lin_1")])).await.unwrap();
        let second = save(&app, remote("https://mcp.linear.app/other"), Secrets::default()).await.unwrap();
        assert_eq!(first.id, second.id);
        assert_ne!(first.sealed, second.sealed, "bound to what it is now");
        let stolen = save(&app, remote("https://evil.example.com/mcp"), Secrets::default()).await;
        assert!(matches!(&stolen, Err(ConnectorError::Refused(why)) if why.contains("KEY")), "{stolen:?}");
        assert_eq!(kept(&app.store).await, [second]);
        assert!(app.store.delete_connector(OWNER, "linear").await.unwrap());
        assert!(kept(&app.store).await.is_empty());
        app.store.close().await;
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn private_addresses_and_broken_names_are_refused() {
    let world = World::start(Engine::Sqlite).await.unwrap();
    let app = world.app(&[]).await;
    for url in [
        "http://mcp.linear.app/mcp",
        "https://localhost/mcp",
        "https://127.0.0.1/mcp",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://user:pass@mcp.linear.app/",
        "file:///etc/passwd",
    ] {
        let saved = save(&app, remote(url), secrets(&[("KEY", "x")])).await;
        assert!(matches!(saved, Err(ConnectorError::Refused(_))), "{url}: {saved:?}");
    }
    let newline = save(&app, remote("https://mcp.linear.app/mcp"), secrets(&[("KEY", "a\r\nHost: b")])).await;
    assert!(matches!(newline, Err(ConnectorError::Refused(_))));
    assert!(kept(&app.store).await.is_empty());
    app.store.close().await;
    world.finish().await;
}

/// Whoever can write to the database cannot send a secret elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_connector_whose_address_was_changed_stays_closed() {
    for engine in Engine::both() {
        let Some(world) = World::start(engine).await else { continue };
        let app = world.app(&[]).await;
        let saved = save(&app, remote("https://mcp.linear.app/mcp"), secrets(&[("KEY", "lin_1")])).await.unwrap();
        assert!(opens(OLD, &saved));
        world
            .tamper("UPDATE connectors SET transport = replace(transport, 'mcp.linear.app', 'evil.example.com')")
            .await;
        let changed = kept(&app.store).await.remove(0);
        assert!(changed.transport.target().contains("evil.example.com"), "{changed:?}");
        assert!(!opens(OLD, &changed));
        app.store.close().await;
        world.finish().await;
    }
}

/// Connectors and conversations are sealed anew with the keys; a conversation whose task is gone is not
/// brought back.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_takes_connectors_and_conversations_along() {
    for engine in Engine::both() {
        let Some(world) = World::start(engine).await else { continue };
        let comment = world.comment(PERSON, "/agent ours fix it").await;
        assert_eq!(world.ended(comment).await, "rocket");
        let task = world.last_task().await.id;
        let app = world.app(&[]).await;
        let saved = save(&app, remote("https://mcp.linear.app/mcp"), secrets(&[("KEY", "lin_1")])).await.unwrap();
        let said = vault(OLD).seal_bytes(&format!("conversations/{task}"), b"what was said", [3; 32]).unwrap();
        let talk = Conversation { session: "s".to_owned(), sealed: said };
        app.store.store_conversation(&task, &talk, Millis(1)).await.unwrap();
        let newer = world.app(&[("ENCRYPTION_KEY", &format!("{},{}", NEW.repeat(32), OLD.repeat(32)))]).await;
        assert_eq!(newer.rotate_keys().await.unwrap(), Rotated { resealed: 2, ..Rotated::default() });
        assert_eq!(newer.rotate_keys().await.unwrap(), Rotated { current: 2, ..Rotated::default() });
        let now = newer.store.conversation(&task).await.unwrap().unwrap();
        assert_ne!(now.sealed, talk.sealed);
        let connector = kept(&newer.store).await.remove(0);
        assert!(connector.sealed != saved.sealed && opens(NEW, &connector) && !opens(OLD, &connector));
        // What was kept anew meanwhile wins, and what is gone stays gone.
        assert!(!newer.store.reseal_conversation(&task, &talk.sealed, b"late").await.unwrap());
        assert!(!newer.store.reseal_conversation(&TaskId("gone".into()), b"a", b"b").await.unwrap());
        app.store.close().await;
        newer.store.close().await;
        world.finish().await;
    }
}
