<?php
// php-memcached, PHP bindings of libmemcached: php_memcached.php text|binary <address> <server> [<user>:<password>]

[, $protocol, $address, $server] = $argv;
[$host, $port] = explode(':', $address);

function client(string $host, int $port): Memcached
{
    global $protocol, $argv;
    $client = new Memcached();
    $patience = [Memcached::OPT_CONNECT_TIMEOUT => 60_000, Memcached::OPT_POLL_TIMEOUT => 60_000];
    $client->setOptions($patience + [Memcached::OPT_BINARY_PROTOCOL => $protocol === 'binary']);
    if (isset($argv[4])) {
        $client->setSaslAuthData(...explode(':', $argv[4]));
    }
    $client->addServer($host, $port);
    return $client;
}

function same(mixed $expected, mixed $actual, string $what): void
{
    if ($expected !== $actual) {
        throw new Exception("$what: " . substr(var_export($actual, true), 0, 200));
    }
}

[$reader, $writer] = [client($host, $port), client($host, $port)];

same(true, $reader->flush(), 'flush');
same([false, Memcached::RES_NOTFOUND], [$reader->get('name'), $reader->getResultCode()], 'a miss');
same('Ada', $reader->get('name', function ($client, $key, &$value) { $value = 'Ada'; return true; }), 'read through');
same('Ada', $reader->get('name'), 'get');
$is_there = $protocol === 'binary' ? Memcached::RES_DATA_EXISTS : Memcached::RES_NOTSTORED;
same([false, $is_there], [$reader->add('name', 'Grace'), $reader->getResultCode()], 'add over a value');
same(true, $reader->add('other', 'Grace'), 'add');
same([true, false], [$reader->replace('name', 'Eve'), $reader->replace('missing', 'Eve')], 'replace');
$reader->setOption(Memcached::OPT_COMPRESSION, false);
same([true, true], [$reader->append('name', '!'), $reader->prepend('name', '<')], 'append and prepend');
same('<Eve!', $reader->get('name'), 'the value has both');
$reader->setOption(Memcached::OPT_COMPRESSION, true);

// The flags hold the type of a value.
foreach ([7, 1.5, true, ['first' => ['Ada', 1]], "\r\nEND\r\n\0", ''] as $value) {
    same(true, $reader->set('typed', $value), 'set');
    same($value, $writer->get('typed'), 'get of a type');
}

$unique = $reader->get('name', null, Memcached::GET_EXTENDED)['cas'];
same(true, $writer->set('name', 'Mallory'), 'another client sets');
same([false, Memcached::RES_DATA_EXISTS], [$reader->cas($unique, 'name', 'Ada'), $reader->getResultCode()], 'a late cas');
$unique = $reader->get('name', null, Memcached::GET_EXTENDED)['cas'];
same([true, 'Ada'], [$reader->cas($unique, 'name', 'Ada'), $reader->get('name')], 'cas');

same(true, $reader->set('number', 9), 'a number');
same([12, 0], [$reader->increment('number', 3), $reader->decrement('number', 20)], 'incr and decr');
same(false, $reader->increment('missing', 1), 'incr of a missing key');

same([true, false], [$reader->touch('number', 100), $reader->touch('missing', 100)], 'touch');
// Above 30 days the number is a date, the first one in January 1970. In the binary protocol -1 is 4294967295, which
// memcached takes for a date in 2106.
foreach ($protocol === 'binary' && $server === 'plain' ? [2_592_001] : [2_592_001, -1] as $past) {
    same([true, false], [$reader->set('number', 9, $past), $reader->get('number')], 'the value has expired');
}

$many = array_combine(array_map(fn ($n) => "many$n", range(0, 99)), range(0, 99));
same(true, $reader->setMulti($many), 'setMulti');
same($many, array_filter($reader->getMulti([...array_keys($many), 'many100'], Memcached::GET_PRESERVE_ORDER), 'is_int'),
    'getMulti');
same(true, $reader->getDelayed(array_keys($many)), 'getDelayed');
same(100, count($reader->fetchAll()), 'fetchAll');
same([true, false], [$reader->delete('many7'), $reader->delete('many7')], 'delete');
same(['many8' => true, 'many7' => Memcached::RES_NOTFOUND], $reader->deleteMulti(['many8', 'many7']), 'deleteMulti');
same(false, $reader->get('many7'), 'the key was deleted');

$large = random_bytes(500_000);
same([true, $large], [$reader->set('large', $large), $reader->get('large')], 'a large value');
same(true, $reader->quit() && $reader->get('large') === $large, 'a closed client reconnects');

same(1, preg_match('/^1\.6\./', $reader->getVersion()[$address]), 'version');
same(true, $reader->getStats()[$address]['curr_items'] > 0, 'stats');
same([true, false], [$reader->flush(), $reader->get('large')], 'flush');

// The reader misses and reads the row; the writer changes it and deletes the key; then the old row arrives.
same(false, $reader->get('price'), 'the reader misses');
$writer->delete('price');
$answer = $server === 'refusing' ? [false, Memcached::RES_NOTSTORED] : [true, Memcached::RES_SUCCESS];
same($answer, [$reader->set('price', 'old'), $reader->getResultCode()], 'the old row arrives');
$expected = $server === 'plain' ? 'old' : false;
same([$expected, $expected], [$reader->get('price'), $writer->get('price')], 'neither client reads the old row');
