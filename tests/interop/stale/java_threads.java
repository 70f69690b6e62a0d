// The storm with spymemcached: Storm same|other|binary <address> <seconds> <reads>
//
// All readers share one client, which has one connection and one thread of its own. Writers delete through
// the `same` client, or through an `other` one; with `binary`, through another one of the binary protocol.

import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicLongArray;
import java.util.concurrent.locks.LockSupport;
import net.spy.memcached.ConnectionFactoryBuilder;
import net.spy.memcached.ConnectionFactoryBuilder.Protocol;
import net.spy.memcached.MemcachedClient;

class Storm {
    private static final int KEYS = 20;
    private static final int READERS = 8;
    private static final int WRITERS = 2;
    private static final int DELETES_PER_SECOND = 400;

    // For each key, the committed version and the newest one whose delete was answered.
    private static final AtomicLongArray committed = new AtomicLongArray(KEYS);
    private static final AtomicLongArray answered = new AtomicLongArray(KEYS);
    private static final AtomicLong reads = new AtomicLong();
    private static final AtomicLong hits = new AtomicLong();
    private static final AtomicLong stale = new AtomicLong();
    private static final AtomicLong loads = new AtomicLong();
    private static final AtomicLong deletes = new AtomicLong();
    private static volatile boolean areReadersDone;

    public static void main(String[] arguments) throws Exception {
        System.setProperty("net.spy.log.LoggerImpl", "net.spy.memcached.compat.log.SunLogger");
        java.util.logging.Logger.getLogger("net.spy.memcached").setLevel(java.util.logging.Level.WARNING);
        String[] address = arguments[1].split(":");
        Protocol protocol = arguments[0].equals("binary") ? Protocol.BINARY : Protocol.TEXT;
        MemcachedClient reading = client(protocol, address);
        MemcachedClient writing = arguments[0].equals("same") ? reading : client(protocol, address);
        long end = System.nanoTime() + (long) (Double.parseDouble(arguments[2]) * 1e9);
        long readsEach = Long.parseLong(arguments[3]) / READERS;

        var threads = Executors.newFixedThreadPool(READERS + WRITERS, Storm::daemon);
        List<Future<Void>> readers = new ArrayList<>();
        List<Future<Void>> writers = new ArrayList<>();
        for (int nth = 0; nth < READERS; nth++) {
            readers.add(threads.submit((Callable<Void>) () -> {
                for (long read = 0; read < readsEach && System.nanoTime() < end; read++) {
                    read(reading);
                    sleep(between(0, 1_000_000));
                }
                return null;
            }));
        }
        for (int nth = 0; nth < WRITERS; nth++) {
            writers.add(threads.submit((Callable<Void>) () -> write(writing)));
        }
        for (var reader : readers) {
            reader.get();
        }
        areReadersDone = true;
        for (var writer : writers) {
            writer.get();
        }
        System.out.printf("reads=%s hits=%s stale=%s loads=%s deletes=%s%n", reads, hits, stale, loads, deletes);
    }

    // A thread that does not outlive a failure in main.
    private static Thread daemon(Runnable task) {
        var thread = new Thread(task);
        thread.setDaemon(true);
        return thread;
    }

    private static void read(MemcachedClient cache) throws Exception {
        int number = ThreadLocalRandom.current().nextInt(KEYS);
        long newest = answered.get(number);
        Object found = cache.get("product:" + number);
        reads.incrementAndGet();
        if (found == null) {
            loads.incrementAndGet();
            long load = between(1_000_000, 10_000_000);
            long moment = between(0, load);
            sleep(moment);
            long version = committed.get(number);
            sleep(load - moment);
            cache.set("product:" + number, 0, String.valueOf(version)).get();
        } else {
            hits.incrementAndGet();
            if (Long.parseLong((String) found) < newest) {
                stale.incrementAndGet();
            }
        }
    }

    private static Void write(MemcachedClient cache) throws Exception {
        long due = System.nanoTime();
        while (!areReadersDone) {
            int number = ThreadLocalRandom.current().nextInt(KEYS);
            long version = committed.incrementAndGet(number);
            cache.delete("product:" + number).get();
            answered.accumulateAndGet(number, version, Math::max);
            deletes.incrementAndGet();
            due = Math.max(due + 1_000_000_000L * WRITERS / DELETES_PER_SECOND, System.nanoTime());
            sleep(due - System.nanoTime());
        }
        return null;
    }

    private static MemcachedClient client(Protocol protocol, String[] address) throws Exception {
        var patient =
            new ConnectionFactoryBuilder().setProtocol(protocol).setOpTimeout(60_000).setDaemon(true).build();
        return new MemcachedClient(patient, List.of(new InetSocketAddress(address[0], Integer.parseInt(address[1]))));
    }

    private static long between(long least, long most) {
        return ThreadLocalRandom.current().nextLong(least, most + 1);
    }

    private static void sleep(long nanoseconds) {
        long end = System.nanoTime() + nanoseconds;
        for (long left = nanoseconds; left > 0; left = end - System.nanoTime()) {
            LockSupport.parkNanos(left);
        }
    }
}
