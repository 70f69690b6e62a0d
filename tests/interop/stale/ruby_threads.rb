# The storm with dalli: ruby_threads.rb shared|pool|binary <address> <seconds> <reads>
#
# The threads share a client, as dalli allows, or have a connection_pool of them, as Rails does. They use the meta
# commands, or with `binary` a pool and the binary protocol, the default of dalli before 5.

require 'connection_pool'
require 'dalli'

KEYS = 20
READERS = 8
WRITERS = 2
DELETES_PER_SECOND = 400

name, address, seconds, reads = ARGV
END_AT = Process.clock_gettime(Process::CLOCK_MONOTONIC) + seconds.to_f
READS_EACH = reads.to_i / READERS

# For each key, the committed version and the newest one whose delete was answered.
COMMITTED = Array.new(KEYS, 0)
ANSWERED = Array.new(KEYS, 0)
LOCK = Mutex.new
Thread.abort_on_exception = true
$are_readers_done = false

def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

def read(cache)
  count = Hash.new(0)
  while count[:reads] < READS_EACH && now < END_AT
    number = rand(KEYS)
    newest = ANSWERED[number]
    found = cache.with { |client| client.get("product:#{number}") }
    count[:reads] += 1
    if found
      count[:hits] += 1
      count[:stale] += 1 if found.to_i < newest
    else
      count[:loads] += 1
      load = rand(0.001..0.010)
      moment = rand(0..load)
      sleep moment
      version = COMMITTED[number]
      sleep load - moment
      cache.with { |client| client.set("product:#{number}", version.to_s) }
    end
    sleep rand(0..0.001)
  end
  count
end

def write(cache)
  count = Hash.new(0)
  due = now
  until $are_readers_done
    number = rand(KEYS)
    version = LOCK.synchronize { COMMITTED[number] += 1 }
    cache.with { |client| client.delete("product:#{number}") }
    LOCK.synchronize { ANSWERED[number] = [ANSWERED[number], version].max }
    count[:deletes] += 1
    due = [due + WRITERS.fdiv(DELETES_PER_SECOND), now].max
    sleep [due - now, 0].max
  end
  count
end

options = { socket_timeout: 60 }
options[:protocol] = name == 'binary' ? :binary : :meta if Dalli::VERSION.to_i < 5
connect = -> { Dalli::Client.new(address, options) }
pool = -> { ConnectionPool.new(size: READERS + WRITERS, timeout: 60, &connect) }
cache = { 'shared' => connect, 'pool' => pool, 'binary' => pool }.fetch(name).call

readers = Array.new(READERS) { Thread.new { read(cache) } }
writers = Array.new(WRITERS) { Thread.new { write(cache) } }
counts = readers.map(&:value)
$are_readers_done = true
counts += writers.map(&:value)
puts(%i[reads hits stale loads deletes].map { |what| "#{what}=#{counts.sum { |count| count[what] }}" }.join(' '))
