# What a guest does with the machine around it.

# machine: what the kernel found.
machine() {
    say "cpus=$(nproc)"
    say "present=$(cat /sys/devices/system/cpu/present)"
    say "memory=$(grep MemTotal /proc/meminfo | tr -dc '0-9')"
    say "clock=$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
    say "functions=$(ls /sys/bus/pci/devices | wc -l)"
    # Message-signalled interrupts are numbered by the I/O controllers' pins; none may be left to guess.
    say "complaints=$(dmesg | grep -ciE 'BIOS bug|firmware bug|ACPI (error|warning)|not reserved')"
    dmesg | grep -iE 'BIOS bug|firmware bug|ACPI (error|warning)|not reserved'
}

# devices: what was negotiated with each virtio device, by its type.
devices() {
    for device in /sys/bus/virtio/devices/*; do
        say "features_$(($(cat "$device/device")))=$(cat "$device/features")"
    done
}

# hear: waits for a line on the console.
hear() {
    say "waiting=line"
    read -r line
    say "heard=$line"
}

# reboot_once DISK: the first time, leaves a mark on the disk and restarts the machine.
reboot_once() {
    wait_for_disk "$1"
    if [ "$(dd if="/dev/$1" bs=16 count=1 2>/dev/null)" = "second-life-soon" ]; then
        say "rebooted=ok"
        return
    fi
    printf 'second-life-soon' > /tmp/mark
    try mark dd if=/tmp/mark of="/dev/$1" conv=fsync 2>/dev/null
    say "rebooting=now"
    reboot -f
    sleep 60
    fail "reboot"
}

# kexec_once DISK KERNEL_BYTES: the first time, starts the kernel at the beginning of the disk with the initrd
# 32 MiB after it, without shutting anything down.
kexec_once() {
    wait_for_disk "$1"
    if grep -q second-life /proc/cmdline; then
        say "kexeced=ok"
        return
    fi
    try kernel sh -c "head -c $2 /dev/$1 > /tmp/kernel"
    try initrd dd if="/dev/$1" of=/tmp/initrd bs=1M skip=32 2>/dev/null
    say "kexecing=now"
    /programs/guest-kexec /tmp/kernel /tmp/initrd "$(cat /proc/cmdline) second-life"
    fail kexec
}

# rebind DISK: takes the disk away from its driver and gives it back.
rebind() {
    device=$(basename "$(readlink -f "/sys/block/$1/device")")
    echo "$device" > /sys/bus/virtio/drivers/virtio_blk/unbind || fail unbind
    [ ! -b "/dev/$1" ] || fail "disk-without-driver"
    echo "$device" > /sys/bus/virtio/drivers/virtio_blk/bind || fail bind
    wait_for_disk "$1"
    say "rebound=ok"
}

# await_power_button: as an init would, but it only says that it was pressed.
await_power_button() {
    event=$(grep -A 5 'Name="Power Button"' /proc/bus/input/devices |
        sed -n 's/.*Handlers=.*\(event[0-9]*\).*/\1/p' | head -n 1)
    [ -c "/dev/input/$event" ] || fail "no-power-button"
    say "waiting=power-button"
    try power-button dd if="/dev/input/$event" of=/dev/null bs=24 count=1 2>/dev/null
    say "pressed=ok"
}

# console_line TEXT: to the first virtio console.
console_line() {
    for _ in $(seq 100); do [ -c /dev/hvc0 ] && break || usleep 100000; done
    try console-line sh -c "echo '$*' > /dev/hvc0"
    say "console_line=ok"
}

# gives_memory MIB: until a balloon has left at most so much available.
gives_memory() {
    for _ in $(seq 200); do
        available=$(grep MemAvailable /proc/meminfo | tr -dc '0-9')
        [ "$available" -gt $(($1 << 10)) ] || break
        usleep 100000
    done
    [ "$available" -le $(($1 << 10)) ] || fail "memory-$available"
    say "available_mib=$((available >> 10))"
    say "gave_memory=ok"
}

# for_ever: until the host ends the machine.
for_ever() {
    say "waiting=for-ever"
    sleep 1000
}

# shared_folder TAG: mounts a folder of the host's, reads what is in it, and writes something.
shared_folder() {
    try mount-folder mount -t virtiofs "$1" $MOUNT
    [ "$(cat $MOUNT/to-guest)" = "from outside" ] || fail "file-of-the-host"
    echo "from inside" > $MOUNT/to-host || fail "write-to-the-host"
    try unmount-folder umount $MOUNT
    say "folder=ok"
}

# vsock_line PORT TEXT: says it to the host's port, which has to have heard it.
vsock_line() {
    port=$1
    shift
    answer=$(/programs/guest-vsock say "$port" "$*")
    [ "$answer" = "heard $*" ] || fail "vsock-$answer"
    say "vsock=ok"
}

# network_address: what the driver made of the first card's configuration space.
network_address() {
    say "mac=$(cat /sys/class/net/eth0/address)"
    say "mtu=$(cat /sys/class/net/eth0/mtu)"
}

# fetch URL: takes an address from whoever gives one on the first network card, and fetches a page.
fetch() {
    try link-up ip link set eth0 up
    printf '#!/bin/sh\nip addr add $ip/$mask dev eth0; ip route add default via $router\n' > /tmp/dhcp
    chmod 755 /tmp/dhcp
    try address udhcpc -q -n -i eth0 -s /tmp/dhcp > /dev/null 2>&1
    say "address=$(ip -4 addr show eth0 | sed -n 's/.*inet \([0-9.]*\).*/\1/p')"
    [ "$(wget -q -O - "$1")" = "from outside" ] || fail "page-of-the-host"
    say "page=ok"
}
