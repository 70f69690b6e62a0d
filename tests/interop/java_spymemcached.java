// spymemcached: Interop text|binary <address> <server> [<user>:<password>]
//
// All callers share one connection and one thread of the client. Its default is the text protocol; it can log in
// only over the binary one.

import java.net.InetSocketAddress;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Random;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import net.spy.memcached.BinaryConnectionFactory;
import net.spy.memcached.CASResponse;
import net.spy.memcached.ConnectionFactory;
import net.spy.memcached.ConnectionFactoryBuilder;
import net.spy.memcached.MemcachedClient;
import net.spy.memcached.auth.AuthDescriptor;
import net.spy.memcached.auth.PlainCallbackHandler;

class Interop {
    public static void main(String[] arguments) throws Exception {
        String[] address = arguments[1].split(":");
        String server = arguments[2];
        ConnectionFactory factory =
            arguments[0].equals("binary") ? new Binary(arguments.length > 3 ? arguments[3] : null) : text();
        MemcachedClient reader = client(factory, address);
        MemcachedClient writer = client(factory, address);

        same(reader.flush().get(), true);
        same(reader.get("name"), null);
        same(reader.set("name", 0, "Ada").get(), true);
        same(reader.get("name"), "Ada");
        same(reader.add("name", 0, "Grace").get(), false);
        same(reader.add("other", 0, "Grace").get(), true);
        same(reader.replace("name", 0, "Eve").get(), true);
        same(reader.replace("missing", 0, "Eve").get(), false);
        same(reader.append("name", "!").get() && reader.prepend("name", "<").get(), true);
        same(reader.get("name"), "<Eve!");
        same(reader.asyncGet("name").get(), "<Eve!");

        // The flags hold the type of a value.
        for (Object value : new Object[] {7, 1.5, true, List.of("Ada", 1), "\r\nEND\r\n"}) {
            same(reader.set("typed", 0, value).get(), true);
            same(writer.get("typed"), value);
        }

        long before = reader.gets("name").getCas();
        same(writer.set("name", 0, "Mallory").get(), true);
        same(reader.cas("name", before, "Ada"), CASResponse.EXISTS);
        same(reader.cas("name", reader.gets("name").getCas(), "Ada"), CASResponse.OK);
        same(reader.cas("missing", before, "Ada"), CASResponse.NOT_FOUND);
        same(reader.get("name"), "Ada");

        same(reader.set("number", 0, "9").get(), true);
        same(reader.incr("number", 3), 12L);
        same(reader.decr("number", 20), 0L);
        same(reader.incr("missing", 1), -1L);
        same(reader.incr("counter", 1, 5, 100), 5L);
        same(reader.incr("counter", 1, 5, 100), 6L);

        same(reader.touch("number", 100).get(), true);
        same(reader.touch("missing", 100).get(), false);
        // Above 30 days the number is a date, this one in January 1970.
        same(reader.touch("number", 2_592_001).get(), true);
        same(reader.get("number"), null);

        Map<String, Object> many =
            IntStream.range(0, 100).boxed().collect(Collectors.toMap(n -> "many" + n, n -> n));
        for (String key : many.keySet()) {
            reader.set(key, 0, many.get(key));
        }
        List<String> keys = IntStream.range(0, 101).mapToObj(n -> "many" + n).collect(Collectors.toList());
        same(reader.getBulk(keys), many);
        same(reader.delete("many7").get(), true);
        same(reader.delete("many7").get(), false);
        same(reader.get("many7"), null);

        byte[] large = new byte[500_000];
        new Random(1).nextBytes(large);
        same(reader.set("large", 0, large).get(), true);
        same(Arrays.equals((byte[]) reader.get("large"), large), true);

        same(reader.getVersions().values().iterator().next().startsWith("1.6."), true);
        same(Long.parseLong(reader.getStats().values().iterator().next().get("curr_items")) > 0, true);
        same(reader.getStats("settings").values().iterator().next().containsKey("maxbytes"), true);
        same(reader.flush().get(), true);
        same(reader.get("large"), null);

        // The reader misses and reads the row; the writer changes it and deletes the key; then the old row
        // arrives.
        same(reader.get("price"), null);
        writer.delete("price").get();
        same(reader.set("price", 0, "old").get(), !server.equals("refusing"));
        String expected = server.equals("plain") ? "old" : null;
        same(reader.get("price"), expected);
        same(writer.get("price"), expected);
        reader.shutdown();
        writer.shutdown();
    }

    private static MemcachedClient client(ConnectionFactory factory, String[] address) throws Exception {
        return new MemcachedClient(factory, List.of(new InetSocketAddress(address[0], Integer.parseInt(address[1]))));
    }

    private static ConnectionFactory text() {
        return new ConnectionFactoryBuilder().setOpTimeout(60_000).build();
    }

    // The binary protocol, perhaps with a login `user:password`.
    private static class Binary extends BinaryConnectionFactory {
        private final String login;

        Binary(String login) {
            this.login = login;
        }

        @Override
        public long getOperationTimeout() {
            return 60_000;
        }

        @Override
        public AuthDescriptor getAuthDescriptor() {
            if (login == null) {
                return null;
            }
            // `AuthDescriptor.typical` would try CRAM-MD5 first.
            String[] words = login.split(":");
            return new AuthDescriptor(new String[] {"PLAIN"}, new PlainCallbackHandler(words[0], words[1]));
        }
    }

    private static void same(Object actual, Object expected) {
        if (!Objects.equals(actual, expected)) {
            throw new AssertionError(actual + ", not " + expected);
        }
    }
}
