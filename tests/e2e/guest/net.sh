# What a guest does with a network card; /job calls these functions by name.

CARD=eth0
HOST=192.0.2.1
HOST6=fd00::1

# network: addresses, and what the driver found.
network() {
    waited=0
    while [ ! -d /sys/class/net/$CARD ]; do
        [ $waited -lt 50 ] || fail waiting-for-$CARD
        waited=$((waited + 1))
        usleep 100000
    done
    say "net_features=$(cat /sys/class/net/$CARD/device/features)"
    say "mac=$(cat /sys/class/net/$CARD/address)"
    try link-up ip link set $CARD up
    try address ip addr add 192.0.2.2/24 dev $CARD
    if [ -d /proc/sys/net/ipv6 ]; then
        # There is nobody else to have the same address.
        echo 0 > /proc/sys/net/ipv6/conf/$CARD/accept_dad
        try address6 ip addr add fd00::2/64 dev $CARD
    fi
}

# pings: sizes at and around the edges of frames and fragments; each has to come back whole.
pings() {
    for size in 1 17 56 999 1471 1472 1473 2961 8973 40001 65000; do
        try "ping-$size" answered $HOST $size
    done
    if [ -d /proc/sys/net/ipv6 ]; then
        for size in 8 777 1452 1453 9001 60001; do
            try "ping6-$size" answered $HOST6 $size
        done
        say "ipv6=ok"
    fi
    say "pings=ok"
}

# answered ADDRESS SIZE: one of three is enough; the first may have to wait for an address.
answered() {
    ping -c 3 -i 0.1 -W 2 -s "$2" "$1" | grep -q "^$2 bytes\|$(($2 + 8)) bytes from"
}

# transfers MIB: to the host and from it; the host compares the sums.
transfers() {
    head -c $(($1 << 20)) /dev/urandom > /tmp/sent
    say "sent_sum=$(sha256sum < /tmp/sent | cut -d ' ' -f 1)"
    begun=$(centiseconds)
    nc $HOST 5001 < /tmp/sent > /dev/null || fail sending
    say "sending_cs=$(($(centiseconds) - begun))"
    rm /tmp/sent
    begun=$(centiseconds)
    # A sender that has come to its end closes, and the host's would then stop giving.
    mkfifo /tmp/quiet
    nc $HOST 5002 0<> /tmp/quiet > /tmp/fetched || fail fetching
    say "fetching_cs=$(($(centiseconds) - begun))"
    say "fetched_sum=$(sha256sum < /tmp/fetched | cut -d ' ' -f 1)"
    rm /tmp/fetched
    say "transfers=ok"
}

# outlives_silence: the back-end goes and comes back; the longest time without an answer.
outlives_silence() {
    try first-answer ping -c 1 -W 2 $HOST > /dev/null
    say "answered=yes"
    begun=$(centiseconds)
    last=$begun
    longest=0
    while [ $((last - begun)) -lt 400 ]; do
        ping -c 1 -W 1 $HOST > /dev/null && {
            now=$(centiseconds)
            [ $((now - last)) -le $longest ] || longest=$((now - last))
            last=$now
        }
        [ $(($(centiseconds) - last)) -lt 3000 ] || fail no-answer-any-more
    done
    say "silence_cs=$longest"
}

# watches_link: as the driver is told of it.
watches_link() {
    say "link=$(cat /sys/class/net/$CARD/carrier)"
    say "watching=ok"
    while [ "$(cat /sys/class/net/$CARD/carrier)" = 1 ]; do usleep 20000; done
    say "link_down=ok"
    until [ "$(cat /sys/class/net/$CARD/carrier)" = 1 ]; do usleep 20000; done
    say "link_up=ok"
}

# stream KEY SECONDS ARGUMENTS...: iperf3 against the host; what its receiver got, in bits a second.
stream() {
    key=$1
    seconds=$2
    shift 2
    say "begins_$key=$(centiseconds)"
    # The host's side of the last one may need a moment.
    tries=0
    until /programs/iperf3 -c $HOST -t "$seconds" -J "$@" > /tmp/stream; do
        tries=$((tries + 1))
        [ $tries -lt 4 ] || fail "stream-$key-$(grep -m 1 '"error"' /tmp/stream | tr -s '\t ' '--')"
        sleep 1
    done
    # Of UDP, what was lost on the way was not received.
    say "stream_$key=$(awk '
        /"blksize"/ { length_ = $2 + 0 }
        /"protocol"/ { udp = /UDP/ }
        /^\t"end":/ { end = 1 }
        end && /^\t\t"sum_received":/ { tcp = 1 }
        end && /^\t\t"sum":/ { sum = 1 }
        tcp && /"bits_per_second"/ && !udp && !bits { bits = $2 + 0 }
        sum && /"seconds"/ && !time { time = $2 + 0 }
        sum && /"packets"/ && !all { all = $2 + 0 }
        sum && /"lost_packets"/ && !lost { lost = $2 + 0 }
        END {
            if (udp && time) bits = (all - lost) * length_ * 8 / time
            printf "%.0f", bits
        }' /tmp/stream)"
}

# mtu BYTES: frames that carry so many, and pings that fill them.
mtu() {
    try "mtu-$1" ip link set $CARD mtu "$1"
    for size in $(($1 - 28)) $(($1 - 27)) 65000; do
        try "ping-$size-at-$1" answered $HOST $size
    done
    say "mtu_$1=ok"
}

# vlan ID: a network of its own among the frames of the card.
vlan() {
    try vlan ip link add link $CARD name vlan type vlan id "$1"
    try vlan-address ip addr add 198.51.100.2/24 dev vlan
    try vlan-up ip link set vlan up
    for size in 1 1472 1473 40001; do
        try "ping-$size-in-vlan" answered 198.51.100.1 $size
    done
    say "vlan=ok"
}

# sends_far HOST PORT MIB: to a host that the host forwards to; UDP first, which needs no answer.
sends_far() {
    try far-route ip route add "$1" via $HOST
    for name in a bb ccc dddd; do
        timeout 1 nslookup $name.test "$1" > /dev/null 2>&1
        timeout 1 tftp -g -r $name -l /tmp/never "$1" > /dev/null 2>&1
    done
    head -c $(($3 << 20)) /dev/urandom > /tmp/sent
    nc "$1" "$2" < /tmp/sent > /dev/null || fail sending-far
    rm /tmp/sent
    say "sent_far=ok"
}
