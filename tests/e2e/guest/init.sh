#!/bin/busybox sh
# The first process of a test guest. It loads the modules, does what /job says, and powers off.
#
# What the host has to know stands on console lines of the form `OUTRIGGER key=value`; the last one
# is `OUTRIGGER done=ok`, or `OUTRIGGER failed=step` for the first step that went wrong.

say() {
    echo "OUTRIGGER $*"
}

stop() {
    sync
    poweroff -f
    halt -f
    # The host ends a guest that has said its last line and cannot stop.
    sleep 60
}

fail() {
    say "failed=$*"
    stop
}

# try STEP COMMAND...: runs a command that has to succeed.
try() {
    step=$1
    shift
    "$@" || fail "$step"
}

start_up() {
    /bin/busybox --install -s /bin
    export PATH=/bin
    mount -t proc proc /proc
    mount -t sysfs sysfs /sys
    # Some kernels have mounted it already.
    grep -q ' /dev ' /proc/mounts || mount -t devtmpfs devtmpfs /dev
    mount -t tmpfs tmpfs /tmp
    # The kernel's own messages would break into the lines above.
    dmesg -n 1
    for module in /modules/*.ko; do
        [ -e "$module" ] || continue
        try "loading-$(basename "$module")" insmod "$module"
    done
    say "kernel=$(uname -r)"
}

say "init=started"
start_up
. /block.sh
. /balloon.sh
. /console.sh
. /migration.sh
. /net.sh
. /vmm.sh
. /job
say "done=ok"
stop
