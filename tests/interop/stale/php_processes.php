<?php
// The storm with php-memcached: php_processes.php text|binary <address> <seconds> <reads>
//
// PHP serves each request in a process, and a persistent client keeps its connection for the next one. The
// processes share the database, a file with two numbers for each key: the committed version, and the newest
// one whose delete was answered.

const KEYS = 20;
const READERS = 8;
const WRITERS = 2;
const DELETES_PER_SECOND = 400;

[, $protocol, $address, $seconds, $reads] = $argv;
[$host, $port] = explode(':', $address);
$path = tempnam(sys_get_temp_dir(), 'storm');
file_put_contents($path, str_repeat(pack('P', 0), 2 * KEYS));

function row(int $number, ?callable $change = null): array
{
    global $file;
    flock($file, $change ? LOCK_EX : LOCK_SH);
    fseek($file, 16 * $number);
    $row = array_values(unpack('P2', fread($file, 16)));
    if ($change) {
        $row = $change(...$row);
        fseek($file, 16 * $number);
        fwrite($file, pack('P2', ...$row));
        fflush($file);
    }
    flock($file, LOCK_UN);
    return $row;
}

function client(): Memcached
{
    global $host, $port, $protocol;
    $client = new Memcached('storm');
    if (!$client->getServerList()) {
        $client->setOptions([Memcached::OPT_CONNECT_TIMEOUT => 60_000, Memcached::OPT_POLL_TIMEOUT => 60_000]);
        $client->setOption(Memcached::OPT_BINARY_PROTOCOL, $protocol === 'binary');
        // Its binary get is two segments, and the second would wait for the answer to the first.
        $client->setOption(Memcached::OPT_TCP_NODELAY, $protocol === 'binary');
        $client->addServer($host, $port);
    }
    return $client;
}

function check(Memcached $client): void
{
    if (!in_array($client->getResultCode(), [Memcached::RES_SUCCESS, Memcached::RES_NOTFOUND])) {
        throw new Exception($client->getResultMessage());
    }
}

function between(float $least, float $most): float
{
    return $least + lcg_value() * ($most - $least);
}

function sleep_for(float $milliseconds): void
{
    usleep((int) max(0, $milliseconds * 1000));
}

function reader(): array
{
    global $seconds, $reads;
    $end = hrtime(true) + $seconds * 1e9;
    [$hits, $stale, $loads] = [0, 0, 0];
    for ($nth = 0; $nth < intdiv($reads, READERS) && hrtime(true) < $end; $nth++) {
        // Each read stands for a new PHP request, which reuses the connection of the request before.
        $client = client();
        $number = mt_rand(0, KEYS - 1);
        [, $newest] = row($number);
        $found = $client->get("product:$number");
        check($client);
        if ($found === false) {
            $loads++;
            $load = between(1, 10);
            $moment = between(0, $load);
            sleep_for($moment);
            [$version] = row($number);
            sleep_for($load - $moment);
            $client->set("product:$number", (string) $version);
            check($client);
        } else {
            $hits++;
            $stale += (int) $found < $newest;
        }
        sleep_for(between(0, 1));
    }
    return [$nth, $hits, $stale, $loads, 0];
}

function writer(): array
{
    global $path;
    $client = client();
    $due = hrtime(true);
    // The file is removed once all readers are done.
    for ($deletes = 0; file_exists($path); $deletes++) {
        $number = mt_rand(0, KEYS - 1);
        [$version] = row($number, fn ($committed, $answered) => [$committed + 1, $answered]);
        $client->delete("product:$number");
        check($client);
        row($number, fn ($committed, $answered) => [$committed, max($answered, $version)]);
        $due = max($due + 1e9 * WRITERS / DELETES_PER_SECOND, hrtime(true));
        sleep_for(($due - hrtime(true)) / 1e6);
        clearstatcache();
    }
    return [0, 0, 0, 0, $deletes];
}

/** Starts a process. Returns the pipe to which it writes its counts. */
function process(callable $role)
{
    global $path, $file;
    // Each process opens the file itself: with an inherited handle the processes would share its locks.
    $file = fopen($path, 'r+');
    [$ours, $theirs] = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
    if (pcntl_fork() === 0) {
        mt_srand(getmypid());
        fwrite($theirs, implode(' ', $role()));
        exit;
    }
    fclose($theirs);
    return $ours;
}

$readers = array_map(fn () => process('reader'), range(1, READERS));
$writers = array_map(fn () => process('writer'), range(1, WRITERS));
$counts = array_map('stream_get_contents', $readers);
unlink($path);
$counts = [...$counts, ...array_map('stream_get_contents', $writers)];
$sums = array_fill(0, 5, 0);
foreach ($counts as $count) {
    foreach (explode(' ', $count) as $which => $number) {
        $sums[$which] += $number;
    }
}
vprintf("reads=%d hits=%d stale=%d loads=%d deletes=%d\n", $sums);
