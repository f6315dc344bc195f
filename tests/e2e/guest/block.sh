# What a guest does with a block device; /job calls these functions by name.
#
# /programs/... is written out because the shell prefers what is built into it to what is in PATH.

MOUNT=/mnt

capacity() {
    echo $(($(cat "/sys/block/$1/size") * 512))
}

centiseconds() {
    read -r up _ < /proc/uptime
    echo "${up%.*}${up#*.}"
}

# describe DISK: what the driver found.
describe() {
    wait_for_disk "$1"
    say "features=$(cat "/sys/block/$1/device/features")"
    say "capacity=$(capacity "$1")"
    say "queues=$(ls "/sys/block/$1/mq" | wc -l)"
    say "serial=$(cat "/sys/block/$1/serial" 2>/dev/null)"
    say "cache=$(cat "/sys/block/$1/queue/write_cache")"
}

wait_for_disk() {
    waited=0
    while [ ! -b "/dev/$1" ]; do
        [ $waited -lt 50 ] || fail "waiting-for-$1"
        waited=$((waited + 1))
        usleep 100000
    done
}

# discard DISK: gives the whole disk back, where the device can.
discard() {
    if [ "$(cat "/sys/block/$1/queue/discard_max_bytes")" = 0 ]; then
        say "discard=not-offered"
        return
    fi
    try discard blkdiscard "/dev/$1"
    say "discard=ok"
}

# filesystem DISK MIB: a file system of its own, files in it, and the same bytes again after a
# remount with cold caches.
filesystem() {
    try mkfs /programs/mke2fs -q -F -t ext4 "/dev/$1"
    try mount mount -t ext4 "/dev/$1" $MOUNT
    try make-source dd if=/dev/urandom of=/tmp/source bs=1M count=4 2>/dev/null
    copies=$(($2 / 4))
    copy=0
    begun=$(centiseconds)
    while [ $copy -lt $copies ]; do
        try write dd if=/tmp/source of=$MOUNT/file-$copy bs=1M conv=fsync 2>/dev/null
        copy=$((copy + 1))
    done
    say "file_megabytes_per_second=$(($2 * 105 / ($(centiseconds) - begun + 1)))"
    try unmount umount $MOUNT
    echo 3 > /proc/sys/vm/drop_caches
    /programs/e2fsck -f -n "/dev/$1" > /tmp/fsck 2>&1 || { cat /tmp/fsck; fail "fsck"; }
    try remount mount -t ext4 "/dev/$1" $MOUNT
    compare_copies "$copies"
    try last-unmount umount $MOUNT
    say "filesystem=ext4"
    say "files=$copies"
}

compare_copies() {
    expected=$(sha256sum < /tmp/source)
    copy=0
    while [ $copy -lt "$1" ]; do
        [ "$(sha256sum < $MOUNT/file-$copy)" = "$expected" ] || fail "checksum-of-file-$copy"
        copy=$((copy + 1))
    done
}

# stamped DISK SECONDS THREADS: random writes below the page cache, each read back and checked.
stamped() {
    try stamped-writes /programs/guest-io "/dev/$1" "$2" "$3"
}

# await_resize DISK: waits until the driver has learned of another capacity.
await_resize() {
    before=$(capacity "$1")
    say "waiting=resize"
    waited=0
    while [ "$(capacity "$1")" = "$before" ]; do
        [ $waited -lt 300 ] || fail "resize-not-seen"
        waited=$((waited + 1))
        usleep 100000
    done
    say "resized=$(capacity "$1")"
}

# end_of_disk DISK: writes to the last block and reads it back.
end_of_disk() {
    last=$(($(capacity "$1") / 4096 - 1))
    try make-block dd if=/dev/urandom of=/tmp/block bs=4096 count=1 2>/dev/null
    try write-end dd if=/tmp/block of="/dev/$1" bs=4096 seek=$last oflag=direct 2>/dev/null
    try read-end dd if="/dev/$1" of=/tmp/again bs=4096 skip=$last iflag=direct 2>/dev/null
    try compare-end cmp /tmp/block /tmp/again
    say "end=ok"
}

# read_only DISK: a write has to be refused.
read_only() {
    [ "$(cat "/sys/block/$1/ro")" = 1 ] || fail "disk-is-not-read-only"
    if dd if=/dev/zero of="/dev/$1" bs=4096 count=1 oflag=direct 2>/dev/null; then
        fail "write-to-read-only-disk"
    fi
    say "read_only=ok"
}
