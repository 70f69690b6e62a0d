//! The crate `async-memcached`, on Tokio: classic and meta commands, and pipelines.

use async_memcached::{AsciiProtocol, Client, Error, MetaProtocol, Status};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let address = format!("tcp://{}", arguments.next().expect("an address"));
    let server = arguments.next().expect("fenced, plain or refusing");
    let (mut reader, mut writer) = (Client::new(&address).await?, Client::new(&address).await?);
    reader.flush_all().await?;
    classic(&mut reader).await?;
    meta(&mut reader).await?;
    many_and_large(&mut reader).await?;
    race(&mut reader, &mut writer, &server).await
}

async fn classic(reader: &mut Client) -> Result<(), Error> {
    assert_eq!(get(reader, "name").await?, None);
    reader.set("name", "Ada", None, Some(7)).await?;
    let found = reader.get("name").await?.expect("the value was stored");
    assert_eq!((found.data.as_deref(), found.flags), (Some(&b"Ada"[..]), Some(7)));
    assert_eq!(reader.add("name", "Grace", None, None).await, Err(Error::Protocol(Status::NotStored)));
    reader.add("other", "Grace", None, None).await?;
    reader.set("number", 9_u64, None, None).await?;
    assert_eq!(reader.increment("number", 3).await?, 12);
    assert_eq!(reader.decrement("number", 20).await?, 0);
    reader.increment_no_reply("number", 5).await?;
    reader.decrement_no_reply("number", 2).await?;
    assert_eq!(get(reader, "number").await?.as_deref(), Some("3 "));
    assert_eq!(reader.increment("missing", 1).await, Err(Error::Protocol(Status::NotFound)));
    reader.set("name", "Ada", Some(-1), None).await?;
    assert_eq!(get(reader, "name").await?, None);
    reader.delete("other").await?;
    assert_eq!(reader.delete("other").await, Err(Error::Protocol(Status::NotFound)));
    Ok(())
}

async fn meta(reader: &mut Client) -> Result<(), Error> {
    assert_eq!(reader.meta_get("name", false, None, Some(&["v"])).await?, None);
    reader.meta_set("name", "Ada", false, Some(b"17"), Some(&["T60", "F7"])).await?;
    let flags = ["v", "k", "f", "c", "t", "s", "h"];
    let found =
        reader.meta_get("name", false, Some(b"18"), Some(&flags)).await?.expect("the value was stored");
    assert_eq!((found.data.as_deref(), found.key.as_deref()), (Some(&b"Ada"[..]), Some(&b"name"[..])));
    assert_eq!((found.flags, found.size, found.hit_before), (Some(7), Some(3), Some(false)));
    assert_eq!((found.ttl_remaining, found.opaque_token.as_deref()), (Some(60), Some(&b"18"[..])));
    let unique = format!("C{}", found.cas.expect("the flags request it"));
    reader.meta_set("name", "Eve", true, None, Some(&[&unique])).await?;
    let late = reader.meta_set("name", "Ada", false, None, Some(&[&unique])).await;
    assert_eq!(late, Err(Error::Protocol(Status::Exists)));
    let count = reader.meta_increment("count", false, None, Some(9), Some(&["N60", "v"])).await;
    assert!(count.is_ok(), "{count:?}");
    reader.meta_delete("name", false, None, None).await?;
    assert_eq!(reader.meta_get("name", true, None, Some(&["v"])).await?, None);
    Ok(())
}

async fn many_and_large(reader: &mut Client) -> Result<(), Error> {
    let names: Vec<String> = (0..101).map(|n| format!("many{n}")).collect();
    let pairs: Vec<(&str, &str)> = names[..100].iter().map(|name| (&**name, &**name)).collect();
    let stored = reader.set_multi(&pairs, None, None).await?;
    assert!(stored.len() == 100 && stored.values().all(Result::is_ok));
    let found = reader.get_multi(&names).await?;
    assert_eq!(found.len(), 100);
    assert!(found.iter().all(|value| value.data.as_ref() == Some(&value.key)));

    // No dump_keys: version 0.9 cannot read the OK before the dump, not even memcached 1.6.45's.
    reader.delete_multi_no_reply(&names[..50]).await?;
    assert_eq!(reader.get_multi(&names).await?.len(), 50);

    let large: Vec<u8> = (0..500_000_u32).map(|n| n as u8).collect();
    reader.set("large", &large[..], None, None).await?;
    assert_eq!(reader.get("large").await?.and_then(|value| value.data), Some(large));
    assert!(reader.version().await?.starts_with("1.6."));
    assert!(reader.stats().await?["curr_items"].parse::<u64>().expect("a number") > 0);
    reader.flush_all().await
}

/// The reader misses and reads the row; the writer changes it and deletes the key; then the old row arrives.
async fn race(reader: &mut Client, writer: &mut Client, server: &str) -> Result<(), Error> {
    assert_eq!(get(reader, "price").await?, None);
    writer.delete_no_reply("price").await?;
    writer.version().await?;
    let answer = if server == "refusing" { Err(Error::Protocol(Status::NotStored)) } else { Ok(()) };
    assert_eq!(reader.set("price", "old", None, None).await, answer);
    let expected = (server == "plain").then_some("old");
    assert_eq!(get(reader, "price").await?.as_deref(), expected);
    assert_eq!(get(writer, "price").await?.as_deref(), expected);
    Ok(())
}

async fn get(client: &mut Client, key: &str) -> Result<Option<String>, Error> {
    let found = client.get(key).await?;
    Ok(found
        .map(|value| String::from_utf8(value.data.expect("get returns data")).expect("the value is text")))
}
