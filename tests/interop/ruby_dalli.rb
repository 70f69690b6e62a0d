# dalli over the meta commands, which its versions from 4 on speak alone; 3.2 has to be told so.

require 'dalli'

def check(what, is_so)
  raise what unless is_so
end

address, server = ARGV
options = { socket_timeout: 60 }
options[:protocol] = :meta if Dalli::VERSION.to_i < 4
reader, writer = Array.new(2) { Dalli::Client.new(address, options) }

reader.flush
check 'a miss', reader.get('name').nil?
check 'set', reader.set('name', %w[Ada 1])
check 'get', reader.get('name') == %w[Ada 1]
check 'add over a value', !reader.add('name', 'Grace')
check 'add', reader.add('other', 'Grace')
check 'replace', reader.replace('name', 'Eve')
check 'replace of nothing', !reader.replace('nobody', 'Eve')
reader.set('raw', 'Eve', 0, raw: true)
check 'append and prepend', reader.append('raw', '!') && reader.prepend('raw', '<')
check 'both are there', reader.get('raw') == '<Eve!'
check 'append to nothing', !reader.append('nobody', '!')

# Not every key is one word of the protocol: these go in base64.
['a b', "a\nb", 'käse', 'k' * 300].each do |key|
  check "set #{key}", reader.set(key, key)
  check "get #{key}", writer.get(key) == key
end

check 'cas', reader.cas('name') { |value| "#{value}?" }
check 'cas has stored', reader.get('name') == 'Eve?'
check 'cas of nothing', reader.cas('nobody') { raise 'nothing to change' }.nil?
refused = reader.cas('name') do
  writer.set('name', 'Mallory')
  'Ada'
end
check 'cas comes too late', refused == false && reader.get('name') == 'Mallory'

check 'incr begins', reader.incr('number', 3, nil, 9) == 9
check 'incr', reader.incr('number', 3) == 12
check 'decr', reader.decr('number', 20).zero?
check 'incr of nothing', reader.incr('nobody', 1).nil?

check 'touch', reader.touch('name', 100)
check 'touch of nothing', !reader.touch('nobody', 100)
check 'gat', reader.gat('name', 100) == 'Mallory'
check 'over at once', reader.set('name', 'Ada', -1) && reader.get('name').nil?
calls = 0
found = Array.new(3) { reader.fetch('fetched') { (calls += 1).to_s } }
check 'fetch', found == %w[1 1 1]

many = (0...100).to_h { |n| ["many#{n}", n] }
reader.quiet { many.each { |key, value| reader.set(key, value) } }
check 'get_multi', reader.get_multi(*many.keys, 'many100') == many
check 'delete', reader.delete('many7') && !reader.delete('many7') && reader.get('many7').nil?
reader.quiet { many.each_key { |key| reader.delete(key) } }
check 'all are gone', reader.get_multi(*many.keys).empty?

# 3.2 reads a value up to the first end of a line in it, from any server.
large = Random.new(1).bytes(250_000).unpack1('H*')
check 'a large value', reader.set('large', large, 0, compress: false) && reader.get('large') == large

check 'version', reader.version.values.first.start_with?('1.6.')
check 'stats', reader.stats.values.first['curr_items'].to_i.positive?

# Of two that ask for the same row one loads it.
if reader.respond_to?(:fetch_with_lock)
  won = reader.fetch_with_lock('row') do
    check 'the other one does not', writer.fetch_with_lock('row') { raise 'it has lost' }.to_s.empty?
    'Ada'
  end
  check 'the winner has stored', won == 'Ada' && writer.fetch_with_lock('row') { raise 'it is there' } == 'Ada'
  reader.fetch_with_lock('changed') do
    writer.delete('changed')
    'old'
  end
  check 'what was loaded too early is not kept', reader.get('changed') == (server == 'plain' ? 'old' : nil)
end

# The reader misses and reads the row; the writer changes it and deletes the key; then the old row arrives. Meta
# commands hear the truth, however the server is set.
check 'a miss', reader.get('price').nil?
writer.delete('price')
check 'a refused set is told', (reader.set('price', 'old') ? true : false) == (server == 'plain')
expected = server == 'plain' ? 'old' : nil
check 'no old row', reader.get('price') == expected && writer.get('price') == expected
