# Cache::Memcached, pure Perl: the oldest client. It supports neither cas nor touch.

use strict;
use warnings;

use Cache::Memcached;
use Test::More;

my ($address, $server) = @ARGV;
# All clients of a process share one socket for each name of a server: hence two names.
my %patience = (connect_timeout => 60, select_timeout => 60);
my @names = ($address, $address =~ s/^127\.0\.0\.1/localhost/r);
my ($reader, $writer) = map { Cache::Memcached->new({ servers => [$_], %patience }) } @names;

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

ok $reader->set('number', 9), 'a number';
is $reader->incr('number', 3), 12, 'incr';
is $reader->decr('number', 20), 0, 'decr';
ok !$reader->incr('missing', 1), 'incr of a missing key';
ok $reader->set('number', 9, 2_592_001), 'an expiry time in January 1970';
is $reader->get('number'), undef, 'the value has expired';

my %many = map { ("many$_" => $_) } 0 .. 99;
ok $reader->set($_, $many{$_}), "set $_" for sort keys %many;
is_deeply $reader->get_multi(map { "many$_" } 0 .. 100), \%many, 'get_multi';
ok $reader->delete('many7'), 'delete';
ok !$reader->delete('many7'), 'delete of a missing key';
is $reader->get('many7'), undef, 'the key was deleted';

my $large = join '', map { chr($_ % 256) } 1 .. 500_000;
ok $reader->set('large', $large), 'a large value';
ok $reader->get('large') eq $large, 'the large value is complete';

my $stats = $reader->stats('misc')->{hosts}{$address}{misc};
like $stats->{version}, qr/^1\.6\./, 'version';
cmp_ok $stats->{curr_items}, '>', 0, 'curr_items';
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
