//! Logins and TLS.

use std::sync::OnceLock;

use leasehold::Clock;
use leasehold::events::source::postgres::{Postgres, Settings};
use leasehold::events::source::{Attached, Broken, Source};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};

use super::{products, settings};
use crate::support::postgres::Cluster;

/// A server with TLS, where each user logs in by another method with the password `p:w`, and its authorities.
struct Secured {
    cluster: Cluster,
    /// Files: the authority that certified the server, another authority, a certificate of a client, its key.
    files: [String; 4],
}

#[tokio::test]
async fn every_method_of_authentication_works() {
    let Some(secured) = secured() else { return };
    for user in ["plain", "hashed", "scram"] {
        assert_eq!(secured.attach(user, "p%3Aw", "sslmode=disable").await, Ok(()), "{user}");
        let wrong = secured.attach(user, "hunter2", "sslmode=disable").await;
        let wrong = wrong.expect_err("the password is wrong");
        assert!(wrong.contains("password authentication failed") && !wrong.contains("hunter2"), "{wrong}");
    }
    let none = secured.attach("scram", "", "sslmode=disable").await.expect_err("a password is needed");
    assert!(none.contains("asks for the password of scram"), "{none}");
}

/// The server checks the binding to its certificate: with a wrong one the login would fail.
#[tokio::test]
async fn scram_is_bound_to_the_channel_of_tls() {
    let Some(secured) = secured() else { return };
    assert_eq!(secured.attach("scram", "p%3Aw", "sslmode=require").await, Ok(()));
    assert_eq!(secured.attach("scram", "p%3Aw", "sslmode=prefer").await, Ok(()));
}

#[tokio::test]
async fn the_certificate_is_verified_as_the_mode_says() {
    let Some(secured) = secured() else { return };
    let [own, other, ..] = &secured.files;
    for (host, query, expected) in [
        ("localhost", format!("sslmode=verify-full&sslrootcert={own}"), None),
        ("127.0.0.1", format!("sslmode=verify-full&sslrootcert={own}"), Some("certificate is refused")),
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={own}"), None),
        ("localhost", format!("sslmode=verify-ca&sslrootcert={other}"), Some("certificate is refused")),
        ("localhost", format!("sslmode=verify-full&sslrootcert={other}"), Some("certificate is refused")),
        // As with libpq.
        ("127.0.0.1", format!("sslmode=require&sslrootcert={own}"), None),
        ("127.0.0.1", format!("sslmode=require&sslrootcert={other}"), Some("certificate is refused")),
        ("127.0.0.1", "sslmode=require".to_owned(), None),
        ("localhost", "sslmode=verify-full".to_owned(), Some("need sslrootcert=FILE")),
        ("localhost", "sslmode=verify-full&sslrootcert=/nowhere.pem".to_owned(), Some("/nowhere.pem")),
    ] {
        let attached = secured.attach_at(host, "scram", "p%3Aw", &query).await;
        match (attached, expected) {
            (Ok(()), None) => {}
            (Err(why), Some(expected)) => assert!(why.contains(expected), "{query}: {why}"),
            (attached, _) => panic!("{host} {query}: {attached:?}"),
        }
    }
}

#[tokio::test]
async fn a_clients_certificate_is_a_login() {
    let Some(secured) = secured() else { return };
    let [_, _, certificate, key] = &secured.files;
    let query = format!("sslmode=require&sslcert={certificate}&sslkey={key}");
    assert_eq!(secured.attach("certified", "", &query).await, Ok(()));
    let without = secured.attach("certified", "", "sslmode=require").await.expect_err("it is needed");
    assert!(without.contains("certificate"), "{without}");
}

#[tokio::test]
async fn a_server_without_tls_is_named_with_the_remedy() {
    let Some(cluster) = Cluster::shared() else { return };
    let settings = settings(cluster, "postgres");
    let url = settings.url.replace("sslmode=disable", "sslmode=require");
    let attached = Postgres::new(Settings { url, ..settings }, Clock::system()).attach(None).await;
    assert!(matches!(attached, Err(Broken::Misconfigured(why)) if why.contains("set ssl = on there")));
}

impl Secured {
    async fn attach(&self, user: &str, password: &str, query: &str) -> Result<(), String> {
        self.attach_at("127.0.0.1", user, password, query).await
    }

    async fn attach_at(&self, host: &str, user: &str, password: &str, query: &str) -> Result<(), String> {
        let port = self.cluster.port;
        let settings = settings(&self.cluster, "postgres");
        let url = format!("postgresql://{user}:{password}@{host}:{port}/postgres?{query}");
        let mut source = Postgres::new(Settings { url, ..settings }, Clock::system());
        // All of them use one slot, and each waits for the one before.
        loop {
            match source.attach(None).await {
                Ok(attached) => {
                    assert!(matches!(attached, Attached::AtEnd(_)));
                    return Ok(());
                }
                Err(Broken::Transient(why)) if why.contains("in use") || why.contains("already exists") => {
                    tokio::task::yield_now().await;
                }
                Err(broken) => return Err(broken.to_string()),
            }
        }
    }
}

fn secured() -> Option<&'static Secured> {
    static SECURED: OnceLock<Option<Secured>> = OnceLock::new();
    SECURED.get_or_init(start).as_ref()
}

fn start() -> Option<Secured> {
    let mut cluster = Cluster::start("")?;
    let own = authority();
    let (server, server_key) = certified(&own, "localhost");
    let (client, client_key) = certified(&own, "certified");
    let own_file = cluster.file("ca.pem", &own.pem());
    let other_file = cluster.file("other.pem", &authority().pem());
    let [certificate, key] = [cluster.file("server.pem", &server), cluster.file("server.key", &server_key)];
    let [client, client_key] = [cluster.file("client.pem", &client), cluster.file("client.key", &client_key)];
    cluster.configure(&format!(
        "ssl = on\nssl_cert_file = '{certificate}'\nssl_key_file = '{key}'\nssl_ca_file = '{own_file}'\n"
    ));
    let mut sql = cluster.sql("postgres");
    products(&mut sql);
    for (user, encryption) in [("plain", "scram-sha-256"), ("hashed", "md5"), ("scram", "scram-sha-256")] {
        sql.run(&format!(
            "SET password_encryption = '{encryption}'; CREATE ROLE {user} LOGIN SUPERUSER PASSWORD 'p:w'"
        ));
    }
    sql.run("CREATE ROLE certified LOGIN SUPERUSER");
    let methods = [("plain", "password"), ("hashed", "md5"), ("scram", "scram-sha-256")];
    let rules = methods.map(|(user, method)| format!("host all {user} 127.0.0.1/32 {method}\n")).concat();
    cluster.rules(&format!(
        "{rules}hostssl all certified 127.0.0.1/32 cert\nhost all postgres 127.0.0.1/32 trust\n"
    ));
    cluster.kill();
    cluster.run();
    Some(Secured { cluster, files: [own_file, other_file, client, client_key] })
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new([]).expect("no names are legal");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("the system has randomness");
    CertifiedIssuer::self_signed(params, key).expect("it may sign itself")
}

/// A certificate of this name, and its key.
fn certified(issuer: &CertifiedIssuer<'static, KeyPair>, name: &str) -> (String, String) {
    let key = KeyPair::generate().expect("the system has randomness");
    let mut params = CertificateParams::new([name.to_owned()]).expect("a legal name");
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, issuer).expect("the authority signs");
    (certificate.pem(), key.serialize_pem())
}
