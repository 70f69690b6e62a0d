# dalli: ruby_dalli.rb meta|binary <address> <server> [<user>:<password>]
#
# Versions from 5 on use only the meta commands. The default of older ones is the binary protocol, which is the only
# one over which they log in.

require 'dalli'

def check(what, is_so)
  raise what unless is_so
end

protocol, address, server, login = ARGV
options = { socket_timeout: 60 }
options[:protocol] = protocol.to_sym if Dalli::VERSION.to_i < 5
options[:username], options[:password] = login.split(':') if login
reader, writer = Array.new(2) { Dalli::Client.new(address, options) }

reader.flush
check 'a miss', reader.get('name').nil?
check 'set', reader.set('name', %w[Ada 1])
check 'get', reader.get('name') == %w[Ada 1]
check 'add over a value', !reader.add('name', 'Grace')
check 'add', reader.add('other', 'Grace')
check 'replace', reader.replace('name', 'Eve')
check 'replace of a missing key', !reader.replace('missing', 'Eve')
reader.set('raw', 'Eve', 0, raw: true)
check 'append and prepend', reader.append('raw', '!') && reader.prepend('raw', '<')
check 'the value has both', reader.get('raw') == '<Eve!'
check 'append to a missing key', !reader.append('missing', '!')

# Keys that the protocol does not allow are sent in base64.
['a b', "a\nb", 'käse', 'k' * 300].each do |key|
  check "set #{key}", reader.set(key, key)
  check "get #{key}", writer.get(key) == key
end

check 'cas', reader.cas('name') { |value| "#{value}?" }
check 'cas has stored', reader.get('name') == 'Eve?'
check 'cas of a missing key', reader.cas('missing') { raise 'a missing value was passed to the block' }.nil?
refused = reader.cas('name') do
  writer.set('name', 'Mallory')
  'Ada'
end
check 'a late cas is refused', refused == false && reader.get('name') == 'Mallory'

check 'incr with an initial value', reader.incr('number', 3, nil, 9) == 9
check 'incr', reader.incr('number', 3) == 12
check 'decr', reader.decr('number', 20).zero?
check 'incr of a missing key', reader.incr('missing', 1).nil?

check 'touch', reader.touch('name', 100)
check 'touch of a missing key', !reader.touch('missing', 100)
check 'gat', reader.gat('name', 100) == 'Mallory'
# In the binary protocol -1 is 4294967295, which memcached takes for a date in 2106.
is_far_date = protocol == 'binary' && server == 'plain'
check 'a negative time expires at once', reader.set('name', 'Ada', -1) && (is_far_date || reader.get('name').nil?)
calls = 0
found = Array.new(3) { reader.fetch('fetched') { (calls += 1).to_s } }
check 'fetch', found == %w[1 1 1]

many = (0...100).to_h { |n| ["many#{n}", n] }
reader.quiet { many.each { |key, value| reader.set(key, value) } }
check 'get_multi', reader.get_multi(*many.keys, 'many100') == many
check 'delete', reader.delete('many7') && !reader.delete('many7') && reader.get('many7').nil?
reader.quiet { many.each_key { |key| reader.delete(key) } }
check 'all keys were deleted', reader.get_multi(*many.keys).empty?

# dalli 3.2 reads a value only up to its first line break, with any server.
large = Random.new(1).bytes(250_000).unpack1('H*')
check 'a large value', reader.set('large', large, 0, compress: false) && reader.get('large') == large

check 'version', reader.version.values.first.start_with?('1.6.')
check 'stats', reader.stats.values.first['curr_items'].to_i.positive?

# Only one of two clients that ask for the same row loads it.
if reader.respond_to?(:fetch_with_lock)
  won = reader.fetch_with_lock('row') do
    check 'the other client does not load', writer.fetch_with_lock('row') { raise 'the other client loads, too' }.to_s.empty?
    'Ada'
  end
  check 'the winner has stored', won == 'Ada' && writer.fetch_with_lock('row') { raise 'the value is missing' } == 'Ada'
  reader.fetch_with_lock('changed') do
    writer.delete('changed')
    'old'
  end
  check 'a row that was loaded before a delete is not stored', reader.get('changed') == (server == 'plain' ? 'old' : nil)
end

# The reader misses and reads the row; the writer changes it and deletes the key; then the old row arrives. To
# meta commands the server reports the refusal, whatever --implicit-reply is.
check 'a miss', reader.get('price').nil?
writer.delete('price')
is_stored = protocol == 'meta' ? server == 'plain' : server != 'refusing'
check 'a refused set is reported', (reader.set('price', 'old') ? true : false) == is_stored
expected = server == 'plain' ? 'old' : nil
check 'the old row is not stored', reader.get('price') == expected && writer.get('price') == expected
