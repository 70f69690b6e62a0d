# The storm with Perl's clients: perl_processes.pl <module> <address> <seconds> <reads>
#
# Each process has a client. They share the database, a file with two numbers for each key: the committed
# version, and the newest one whose delete was answered.

use strict;
use warnings;

use Fcntl qw(:flock SEEK_SET);
use File::Temp qw(tempfile);
use Time::HiRes qw(clock_gettime usleep CLOCK_MONOTONIC);

use constant { KEYS => 20, READERS => 8, WRITERS => 2, DELETES_PER_SECOND => 400 };

my ($module, $address, $seconds, $reads) = @ARGV;
eval "require $module" or die $@;
my ($created, $path) = tempfile();
syswrite $created, pack('Q<', 0) x (2 * KEYS);

my @readers = map { process(\&reader) } 1 .. READERS;
my @writers = map { process(\&writer) } 1 .. WRITERS;
my @counts = map { scalar readline $_ } @readers;
# This shows the writers that all readers are done.
unlink $path;
push @counts, map { scalar readline $_ } @writers;
my @sums = (0) x 5;
for my $count (@counts) {
    my @numbers = split ' ', $count // die 'a process has failed';
    $sums[$_] += $numbers[$_] for 0 .. $#sums;
}
printf "reads=%d hits=%d stale=%d loads=%d deletes=%d\n", @sums;

sub reader {
    my ($cache, $database) = @_;
    my ($nth, $hits, $stale, $loads) = (0, 0, 0, 0);
    my $end = now() + $seconds;
    for (; $nth < int($reads / READERS) && now() < $end; $nth++) {
        my $number = int rand KEYS;
        my (undef, $newest) = row($database, $number);
        my $found = $cache->get("product:$number");
        if (defined $found) {
            $hits++;
            $stale++ if $found < $newest;
        } else {
            $loads++;
            my $load = between(1, 10);
            my $moment = between(0, $load);
            pause($moment);
            my ($version) = row($database, $number);
            pause($load - $moment);
            defined $cache->set("product:$number", "$version") or die 'set: no answer';
        }
        pause(between(0, 1));
    }
    return ($nth, $hits, $stale, $loads, 0);
}

sub writer {
    my ($cache, $database) = @_;
    my $deletes = 0;
    my $due = now();
    for (; -e $path; $deletes++) {
        my $number = int rand KEYS;
        my ($version) = row($database, $number, sub { ($_[0] + 1, $_[1]) });
        defined $cache->delete("product:$number") or die 'delete: no answer';
        row($database, $number, sub { ($_[0], $_[1] > $version ? $_[1] : $version) });
        $due += WRITERS / DELETES_PER_SECOND;
        $due = now() if $due < now();
        pause(1000 * ($due - now()));
    }
    return (0, 0, 0, 0, $deletes);
}

# Starts a process. Returns the pipe to which it writes its counts.
sub process {
    my ($role) = @_;
    # Each process opens the file itself: with an inherited handle the processes would share its locks.
    open my $database, '+<', $path or die "$path: $!";
    my $child = open(my $pipe, '-|') // die "fork: $!";
    return $pipe if $child;
    srand $$;
    my $cache = $module->new({ servers => [$address], connect_timeout => 60 });
    print join(' ', $role->($cache, $database)), "\n";
    exit;
}

# Returns the versions of a key, after this change.
sub row {
    my ($database, $number, $change) = @_;
    flock $database, $change ? LOCK_EX : LOCK_SH;
    sysseek $database, 16 * $number, SEEK_SET;
    sysread $database, my $bytes, 16;
    my @row = unpack 'Q<2', $bytes;
    if ($change) {
        @row = $change->(@row);
        sysseek $database, 16 * $number, SEEK_SET;
        syswrite $database, pack('Q<2', @row);
    }
    flock $database, LOCK_UN;
    return @row;
}

sub now { clock_gettime(CLOCK_MONOTONIC) }

sub between { $_[0] + rand($_[1] - $_[0]) }

sub pause { usleep(1000 * $_[0]) if $_[0] > 0 }
