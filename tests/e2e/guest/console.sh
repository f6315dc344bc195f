# What a guest does with a virtio console and its ports.

# wait_for_ports NAME...: until they are there, each under the name that udev would give it.
wait_for_ports() {
    mkdir -p /dev/virtio-ports
    for name in "$@"; do
        await_port "$name" || fail "port-$name"
    done
}

await_port() {
    for _ in $(seq 100); do
        for port in /sys/class/virtio-ports/*; do
            if [ "$(cat "$port/name" 2>/dev/null)" = "$1" ]; then
                ln -sf "/dev/$(basename "$port")" "/dev/virtio-ports/$1"
                return
            fi
        done
        sleep 0.1
    done
    return 1
}

# agent NAME: answers requests on a port for ever, a line each. While nobody is attached on the host,
# reading ends at once.
agent() {
    while :; do
        while read -r request; do
            case $request in
            kernel) echo "kernel $(uname -r)" ;;
            memory) echo "memory $(grep MemTotal /proc/meminfo | tr -dc '0-9') kB" ;;
            *) echo "unknown $request" ;;
            esac
        done <>"/dev/virtio-ports/$1" >&0
        sleep 0.1
    done
}

# accounts PASSWORD: there is a user "root" with this password.
accounts() {
    mkdir -p /etc
    echo "root:$(mkpasswd -m md5 "$1"):0:0:root:/:/bin/sh" > /etc/passwd
    echo "root:x:0:" > /etc/group
    echo "outrigger" > /proc/sys/kernel/hostname
}

# login_on TERMINAL: lets somebody log in there, until they have left.
login_on() {
    [ -c "/dev/$1" ] || fail "$1"
    setsid sh -c "exec login <>/dev/$1 >&0 2>&1"
}

# rebind_console: takes the device away from its driver and gives it back.
rebind_console() {
    driver=/sys/bus/virtio/drivers/virtio_console
    device=$(basename "$(ls -d $driver/virtio*)")
    echo "$device" > $driver/unbind || fail unbind
    [ ! -e "/dev/virtio-ports/agent" ] || fail "port-without-driver"
    echo "$device" > $driver/bind || fail bind
}

# desk: a login on hvc0 and an agent on a port; a third port is for whatever the user does with it. The
# second user comes when the driver has been away.
desk() {
    accounts secret
    for user in first second; do
        wait_for_ports agent bulk
        agent agent &
        agent=$!
        say "desk=$user"
        login_on hvc0
        kill $agent
        [ $user = second ] || rebind_console
    done
}

# numbers COUNT: so many numbered lines of 14 bytes, which takes some seconds.
numbers() {
    awk -v count="$1" 'BEGIN {
        for (n = 1; n <= count; n++) {
            printf "line %08d\n", n
            if (n % 100 == 0) { fflush(); system("usleep 20000") }
        }
    }'
}

# numbering COUNT: numbered lines on hvc0, and at the same time on the port bulk.
numbering() {
    wait_for_ports bulk
    say "numbering=$1"
    { stty raw; numbers "$1" >/dev/hvc0; } </dev/hvc0 &
    numbers "$1" >/dev/virtio-ports/bulk
    wait
    say "numbered=ok"
    # What is on its way arrives.
    sleep 3
}

# serve_terminal TERMINAL: does what the host asks for on a terminal (guest/port.rs).
serve_terminal() {
    [ -c "/dev/$1" ] || fail "$1"
    {
        # Holds as long as somebody has it open.
        stty raw -echo
        say "serving=$1"
        /programs/guest-port "/dev/$1"
    } <"/dev/$1"
}

# serve_port NAME: the same on a port.
serve_port() {
    /programs/guest-port "/dev/virtio-ports/$1"
}
