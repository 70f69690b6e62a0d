// gomemcache, the client that most Go programs use. Debian's version is from 2014.
//
// It has a pool of connections and uses the latest one first, so that sequential calls always use the same
// connection.
package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
)

func main() {
	address, server := os.Args[1], os.Args[2]
	reader, writer := client(address), client(address)

	same(reader.DeleteAll(), nil)
	missing(reader, "name")
	store(reader.Set, "name", "Ada", nil)
	same(value(reader, "name"), "Ada")
	store(reader.Add, "name", "Grace", memcache.ErrNotStored)
	store(reader.Add, "other", "Grace", nil)
	store(reader.Replace, "name", "Eve", nil)
	store(reader.Replace, "missing", "Eve", memcache.ErrNotStored)

	same(reader.Set(&memcache.Item{Key: "flagged", Value: []byte("\r\nEND\r\n"), Flags: 1<<32 - 1}), nil)
	flagged, err := reader.Get("flagged")
	same(err, nil)
	same(fmt.Sprintf("%q %d", flagged.Value, flagged.Flags), `"\r\nEND\r\n" 4294967295`)

	before, err := reader.Get("name")
	same(err, nil)
	store(writer.Set, "name", "Mallory", nil)
	before.Value = []byte("Ada")
	same(reader.CompareAndSwap(before), memcache.ErrCASConflict)
	now, err := reader.Get("name")
	same(err, nil)
	now.Value = []byte("Ada")
	same(reader.CompareAndSwap(now), nil)
	same(value(reader, "name"), "Ada")

	store(reader.Set, "number", "9", nil)
	count, err := reader.Increment("number", 3)
	same(fmt.Sprint(count, err), "12 <nil>")
	count, err = reader.Decrement("number", 20)
	same(fmt.Sprint(count, err), "0 <nil>")
	_, err = reader.Increment("missing", 1)
	same(err, memcache.ErrCacheMiss)

	same(reader.Touch("number", 100), nil)
	same(reader.Touch("missing", 100), memcache.ErrCacheMiss)
	same(reader.Touch("number", -1), nil)
	missing(reader, "number")

	var keys []string
	for n := 0; n <= 100; n++ {
		keys = append(keys, fmt.Sprint("many", n))
	}
	for _, key := range keys[:100] {
		store(reader.Set, key, key, nil)
	}
	found, err := reader.GetMulti(keys)
	same(fmt.Sprint(len(found), err), "100 <nil>")
	for key, item := range found {
		same(string(item.Value), key)
	}
	same(reader.Delete("many7"), nil)
	same(reader.Delete("many7"), memcache.ErrCacheMiss)
	missing(reader, "many7")

	large := bytes.Repeat([]byte("0123456789abcdef\r\n\x00\xff"), 25_000)
	store(reader.Set, "large", string(large), nil)
	same(value(reader, "large"), string(large))
	same(reader.DeleteAll(), nil)
	missing(reader, "large")

	// The reader misses and reads the row; the writer changes it and deletes the key; then the old row arrives.
	missing(reader, "price")
	same(writer.Delete("price"), memcache.ErrCacheMiss)
	var answer error
	if server == "refusing" {
		answer = memcache.ErrNotStored
	}
	store(reader.Set, "price", "old", answer)
	if server == "plain" {
		same(value(reader, "price")+value(writer, "price"), "oldold")
	} else {
		missing(reader, "price")
		missing(writer, "price")
	}
}

func client(address string) *memcache.Client {
	client := memcache.New(address)
	client.Timeout = time.Minute
	return client
}

func store(verb func(*memcache.Item) error, key, value string, expected error) {
	same(verb(&memcache.Item{Key: key, Value: []byte(value)}), expected)
}

func value(client *memcache.Client, key string) string {
	item, err := client.Get(key)
	same(err, nil)
	return string(item.Value)
}

func missing(client *memcache.Client, key string) {
	_, err := client.Get(key)
	same(err, memcache.ErrCacheMiss)
}

func same(actual, expected interface{}) {
	if actual != expected {
		panic(strings.TrimSpace(fmt.Sprintf("%.200v, not %.200v", actual, expected)))
	}
}
