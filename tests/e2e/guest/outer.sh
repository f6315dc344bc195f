#!/bin/busybox sh
# The first process of a guest in which other guests run: it loads the modules, and then does what the
# host says over a virtio port.

stop() {
    echo "OUTRIGGER failed=$*"
    poweroff -f
    sleep 60
}

# What the kernel unpacks cannot be left by pivot_root(2), which confined programs want to call; mounted
# over itself it can.
if [ -z "$MOUNTED" ]; then
    /bin/busybox mkdir -p /root
    /bin/busybox mount --bind / /root
    cd /root
    /bin/busybox mount --move . /
    MOUNTED=yes exec /bin/busybox chroot . /init
fi
/bin/busybox --install -s /bin
mkdir -p /etc
echo 'root:x:0:0::/:/bin/sh' > /etc/passwd
echo 'nobody:x:65534:65534::/:/bin/sh' >> /etc/passwd
export PATH=/bin:/programs HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
grep -q ' /dev ' /proc/mounts || mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm /run
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
# Disk images are sparse, so their sizes may add up to more than there is.
mount -t tmpfs -o size=100% tmpfs /site
dmesg -n 1
for module in /modules/*.ko; do
    [ -e "$module" ] || continue
    insmod "$module" || stop "loading-$(basename "$module")"
done
ip link set lo up
PORT=/dev/vport0p1
waited=0
while [ ! -c $PORT ]; do
    [ $waited -lt 100 ] || stop waiting-for-the-port
    waited=$((waited + 1))
    usleep 50000
done
cd /site
# Not instead of this shell: somebody has to reap what lost its parent.
/programs/guest-agent <>$PORT >&0
stop the-agent-has-ended
