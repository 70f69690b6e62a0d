//! The crate `memcache`: its common operations, and the race of a fill against a delete.
//!
//! `interop default|ascii <address> <server>`

use std::collections::HashMap;

use memcache::{Client, CommandError, MemcacheError};

fn main() -> Result<(), MemcacheError> {
    let [protocol, address, server] =
        std::env::args().skip(1).collect::<Vec<_>>().try_into().expect("3 arguments");
    // The default is the binary protocol.
    let choice = if protocol == "default" { String::new() } else { format!("&protocol={protocol}") };
    let url = format!("memcache://{address}?timeout=60{choice}");
    // One connection for each client, so that every request of a client uses the same one.
    let (reader, writer) = (Client::with_pool_size(url.as_str(), 1)?, Client::with_pool_size(url, 1)?);
    reader.flush()?;
    strings(&reader)?;
    uniques(&reader, &writer)?;
    numbers_and_times(&reader)?;
    many_and_large(&reader)?;
    race(&reader, &writer, &server)
}

fn strings(reader: &Client) -> Result<(), MemcacheError> {
    assert_eq!(get(reader, "name")?, None);
    reader.set("name", "Ada", 0)?;
    assert_eq!(get(reader, "name")?.as_deref(), Some("Ada"));
    // In the text protocol this client does not report whether add and replace have stored.
    let refused = |outcome: Result<(), MemcacheError>, error: CommandError| match outcome {
        Ok(()) => true,
        Err(MemcacheError::CommandError(found)) => found == error,
        Err(_) => false,
    };
    assert!(refused(reader.add("name", "Grace", 0), CommandError::KeyExists));
    assert_eq!(get(reader, "name")?.as_deref(), Some("Ada"));
    reader.add("other", "Grace", 0)?;
    assert_eq!(get(reader, "other")?.as_deref(), Some("Grace"));
    reader.replace("name", "Eve", 0)?;
    assert!(refused(reader.replace("missing", "Eve", 0), CommandError::KeyNotFound));
    assert_eq!(get(reader, "missing")?, None);
    reader.append("name", "!")?;
    reader.prepend("name", "<")?;
    assert_eq!(get(reader, "name")?.as_deref(), Some("<Eve!"));
    Ok(())
}

fn uniques(reader: &Client, writer: &Client) -> Result<(), MemcacheError> {
    let unique = |client: &Client| -> Result<u64, MemcacheError> {
        let found: HashMap<String, (Vec<u8>, u32, Option<u64>)> = client.gets(&["name"])?;
        Ok(found["name"].2.expect("gets returns it"))
    };
    let before = unique(reader)?;
    writer.set("name", "Mallory", 0)?;
    assert!(!reader.cas("name", "Ada", 0, before)?);
    assert!(reader.cas("name", "Ada", 0, unique(reader)?)?);
    assert_eq!(get(reader, "name")?.as_deref(), Some("Ada"));
    Ok(())
}

fn numbers_and_times(reader: &Client) -> Result<(), MemcacheError> {
    reader.set("number", 9, 0)?;
    assert_eq!(reader.increment("number", 3)?, 12);
    assert_eq!(reader.decrement("number", 20)?, 0);
    // In the binary protocol this client creates a missing number, which begins with 0.
    let missing = reader.increment("counter", 1);
    assert!(matches!(missing, Ok(0) | Err(MemcacheError::CommandError(CommandError::KeyNotFound))));
    assert!(reader.touch("number", 100)?);
    assert!(!reader.touch("missing", 100)?);
    // Above 30 days the number is a date, this one in January 1970.
    assert!(reader.touch("number", 2_592_001)?);
    assert_eq!(get(reader, "number")?, None);
    Ok(())
}

fn many_and_large(reader: &Client) -> Result<(), MemcacheError> {
    let names: Vec<String> = (0..101).map(|n| format!("many{n}")).collect();
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    for key in &keys[..100] {
        reader.set(key, *key, 0)?;
    }
    let found: HashMap<String, String> = reader.gets(&keys)?;
    assert_eq!(found.len(), 100);
    assert!(found.iter().all(|(key, value)| key == value));
    assert!(reader.delete("many7")?);
    assert!(!reader.delete("many7")?);
    assert_eq!(get(reader, "many7")?, None);

    let large: Vec<u8> = (0..500_000_u32).map(|n| n as u8).collect();
    reader.set("large", &large[..], 0)?;
    assert_eq!(reader.get::<Vec<u8>>("large")?.as_ref(), Some(&large));

    assert!(reader.version()?[0].1.starts_with("1.6."));
    // No stats: version 0.21 stops at the first line and takes the others for later replies.
    reader.flush()?;
    assert_eq!(reader.get::<Vec<u8>>("large")?, None);
    Ok(())
}

/// The reader misses and reads the row; the writer changes it and deletes the key; then the old row arrives.
fn race(reader: &Client, writer: &Client, server: &str) -> Result<(), MemcacheError> {
    assert_eq!(get(reader, "price")?, None);
    writer.delete("price")?;
    // In the binary protocol a refusal is an error.
    assert!(reader.set("price", "old", 0).is_ok() || server == "refusing");
    let expected = (server == "plain").then_some("old");
    assert_eq!(get(reader, "price")?.as_deref(), expected);
    assert_eq!(get(writer, "price")?.as_deref(), expected);
    Ok(())
}

fn get(client: &Client, key: &str) -> Result<Option<String>, MemcacheError> {
    client.get(key)
}
