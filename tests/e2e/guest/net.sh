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
