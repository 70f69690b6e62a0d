# Cache::Memcached::Fast, a Perl client written in C.

use strict;
use warnings;

use Cache::Memcached::Fast;
use Test::More;

my ($address, $server) = @ARGV;
my %options = (servers => [$address], connect_timeout => 60, io_timeout => 60);
my ($reader, $writer) = map { Cache::Memcached::Fast->new(\%options) } 1 .. 2;

$reader->flush_all;
is $reader->get('name'), undef, 'a miss';
ok $reader->set('name', 'Ada'), 'set';
is $reader->get('name'), 'Ada', 'get';
ok !$reader->add('name', 'Grace'), 'add over a value';
ok $reader->add('other', 'Grace'), 'add';
ok $reader->replace('name', 'Eve'), 'replace';
ok !$reader->replace('missing', 'Eve'), 'replace of a missing key';
ok $reader->append('name', '!') && $reader->prepend('name', '<'), 'append and prepend';
is $reader->get('name'), '<Eve!', 'the value has both';

my ($unique) = @{ $reader->gets('name') };
ok $writer->set('name', 'Mallory'), 'another client sets';
ok !$reader->cas('name', $unique, 'Ada'), 'cas too late';
($unique) = @{ $reader->gets('name') };
ok $reader->cas('name', $unique, 'Ada'), 'cas';
is $reader->get('name'), 'Ada', 'cas has set';

ok $reader->set('number', 9), 'a number';
cmp_ok $reader->incr('number', 3), '==', 12, 'incr';
cmp_ok $reader->decr('number', 20), '==', 0, 'decr';
ok !$reader->incr('missing', 1), 'incr of a missing key';

ok $reader->touch('number', 100), 'touch';
ok !$reader->touch('missing', 100), 'touch of a missing key';
is $reader->gat(100, 'number'), '0 ', 'gat';
ok $reader->touch('number', -1), 'touch with an expiry time in the past';
is $reader->get('number'), undef, 'the value has expired';

my %many = map { ("many$_" => $_) } 0 .. 99;
$reader->set_multi(map { [$_, $many{$_}] } keys %many);
is_deeply $reader->get_multi(map { "many$_" } 0 .. 100), \%many, 'get_multi';
ok $reader->delete('many7'), 'delete';
ok !$reader->delete('many7'), 'delete of a missing key';
is $reader->get('many7'), undef, 'the key was deleted';

my $large = join '', map { chr($_ % 256) } 1 .. 500_000;
ok $reader->set('large', $large), 'a large value';
ok $reader->get('large') eq $large, 'the large value is complete';

like $reader->server_versions->{$address}, qr/^1\.6\./, 'version';
$reader->flush_all;
is $reader->get('large'), undef, 'flushed';

# The reader misses and reads the row; the writer changes it and deletes the key; then the old row arrives.
is $reader->get('price'), undef, 'the reader misses';
$writer->delete('price');
is !!$reader->set('price', 'old'), $server ne 'refusing', 'the old row arrives';
my $expected = $server eq 'plain' ? 'old' : undef;
is $reader->get('price'), $expected, 'the reader does not see it';
is $writer->get('price'), $expected, 'nor does the writer';

done_testing;
