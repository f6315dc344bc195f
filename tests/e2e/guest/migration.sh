# What a guest does while it is moved from machine to machine.

ENOUGH=/tmp/enough

# busy DISK THREADS MIB: verified I/O on the disk, and patterns in memory that are checked all the
# time, until the host writes a line to the console.
busy() {
    wait_for_disk "$1"
    # For ever, as the host sees it.
    try memory /programs/guest-memory "/dev/$1" "$3" $ENOUGH &
    memory=$!
    try stamped-writes /programs/guest-io "/dev/$1" 86400 "$2" $ENOUGH &
    writes=$!
    read -r _
    touch $ENOUGH
    wait $memory || fail memory
    wait $writes || fail stamped-writes
}
