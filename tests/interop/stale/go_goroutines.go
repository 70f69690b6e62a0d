// The storm with gomemcache: go_goroutines <readers> <address> <seconds> <reads>
//
// It keeps two idle connections (MaxIdleConns, fixed in Debian's version of 2014) and opens others as needed.
package main

import (
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
)

const (
	keys             = 20
	writers          = 2
	deletesPerSecond = 400
)

// For each key, the committed version and the newest one whose delete was answered.
var committed, answered [keys]int64

var reads, hits, stale, loads, deletes int64

func main() {
	readers, _ := strconv.Atoi(os.Args[1])
	seconds, _ := strconv.ParseFloat(os.Args[3], 64)
	limit, _ := strconv.Atoi(os.Args[4])
	client := memcache.New(os.Args[2])
	client.Timeout = time.Minute
	end := time.Now().Add(time.Duration(seconds * float64(time.Second)))

	var reading, writing sync.WaitGroup
	areReadersDone := make(chan struct{})
	for range make([]int, readers) {
		reading.Add(1)
		go func() {
			defer reading.Done()
			for nth := 0; nth < (limit+readers-1)/readers && time.Now().Before(end); nth++ {
				read(client)
				// The number of reads per second does not depend on the number of readers.
				time.Sleep(between(0, time.Millisecond*time.Duration(readers)/8))
			}
		}()
	}
	for range make([]int, writers) {
		writing.Add(1)
		go func() {
			defer writing.Done()
			write(client, areReadersDone)
		}()
	}
	reading.Wait()
	close(areReadersDone)
	writing.Wait()
	fmt.Printf("reads=%d hits=%d stale=%d loads=%d deletes=%d\n", reads, hits, stale, loads, deletes)
}

func read(client *memcache.Client) {
	number := rand.Intn(keys)
	newest := atomic.LoadInt64(&answered[number])
	item, err := client.Get(key(number))
	atomic.AddInt64(&reads, 1)
	if err == memcache.ErrCacheMiss {
		atomic.AddInt64(&loads, 1)
		load := between(time.Millisecond, 10*time.Millisecond)
		moment := between(0, load)
		time.Sleep(moment)
		version := atomic.LoadInt64(&committed[number])
		time.Sleep(load - moment)
		check(client.Set(&memcache.Item{Key: key(number), Value: []byte(fmt.Sprint(version))}))
		return
	}
	check(err)
	version, err := strconv.ParseInt(string(item.Value), 10, 64)
	check(err)
	atomic.AddInt64(&hits, 1)
	if version < newest {
		atomic.AddInt64(&stale, 1)
	}
}

func write(client *memcache.Client, areReadersDone chan struct{}) {
	ticker := time.NewTicker(writers * time.Second / deletesPerSecond)
	for {
		select {
		case <-areReadersDone:
			return
		case <-ticker.C:
		}
		number := rand.Intn(keys)
		version := atomic.AddInt64(&committed[number], 1)
		if err := client.Delete(key(number)); err != memcache.ErrCacheMiss {
			check(err)
		}
		confirm(number, version)
		atomic.AddInt64(&deletes, 1)
	}
}

func confirm(number int, version int64) {
	for {
		newest := atomic.LoadInt64(&answered[number])
		if newest >= version || atomic.CompareAndSwapInt64(&answered[number], newest, version) {
			return
		}
	}
}

func key(number int) string { return fmt.Sprint("product:", number) }

func between(least, most time.Duration) time.Duration {
	return least + time.Duration(rand.Int63n(int64(most-least)+1))
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
