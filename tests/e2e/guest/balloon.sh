# What a guest does while a balloon takes memory from it and gives it back.

# kib NAME: a line of /proc/meminfo.
kib() {
    found=0
    while read -r name value _; do
        [ "$name" = "$1:" ] && found=$value
    done < /proc/meminfo
    echo "$found"
}

# report_memory: what memory there is, in KiB, several times a second, until the machine is ended.
report_memory() {
    while true; do
        say "memory=$(kib MemTotal) $(kib MemAvailable) $(kib MemFree)"
        usleep 200000
    done
}

# fill_and_free MIB: a file in memory that comes and goes.
fill_and_free() {
    mount -t tmpfs -o size=90% tmpfs /mnt
    try filling dd if=/dev/zero of=/mnt/filled bs=1M count="$1" 2>/dev/null
    say "filled=ok"
    sleep 2
    rm /mnt/filled
    say "freed=ok"
}

# watched_memory MIB: random bytes in memory, which are compared with their sum all the while.
watched_memory() {
    try watched-memory dd if=/dev/urandom of=/tmp/watched bs=1M count="$1" 2>/dev/null
    sum=$(sha256sum < /tmp/watched)
    while true; do
        [ "$(sha256sum < /tmp/watched)" = "$sum" ] || fail watched-memory
        say "watched=ok"
        usleep 100000
    done &
}

# verified_io DISK THREADS: random I/O, each byte of it checked, until the machine is ended.
verified_io() {
    wait_for_disk "$1"
    try verified-io /programs/guest-io "/dev/$1" 86400 "$2" /tmp/enough &
}

# hog MIB: needs so much memory at once, more than there is outside the balloon.
hog() {
    say "hogging=$1"
    try hog dd if=/dev/zero of=/dev/null bs="${1}M" count=1 2>/dev/null
    say "hogged=ok"
}

# takes_memory MIB: once so much is available, half of it is needed.
takes_memory() {
    while [ "$(kib MemAvailable)" -lt $(($1 << 10)) ]; do usleep 100000; done
    hog $(($1 / 2))
}

# report_events: what /proc/vmstat has counted, several times a second, all the while.
report_events() {
    while true; do
        swapped_in=0 swapped_out=0 major=0 oom=0
        while read -r name value; do
            case $name in
                pswpin) swapped_in=$value ;;
                pswpout) swapped_out=$value ;;
                pgmajfault) major=$value ;;
                oom_kill) oom=$value ;;
            esac
        done < /proc/vmstat
        say "events=$swapped_in $swapped_out $major $oom $(($(kib Cached) + $(kib Buffers)))"
        usleep 200000
    done &
}
