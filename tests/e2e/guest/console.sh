# What a guest does with its virtio ports: a shell on the console, an agent that answers on a port, and
# whatever the shell is told to do with a third one.

# wait_for_port NAME: until it is there, under the name that udev would give it.
wait_for_port() {
    for _ in $(seq 100); do
        for port in /sys/class/virtio-ports/*; do
            if [ "$(cat "$port/name" 2>/dev/null)" = "$1" ]; then
                mkdir -p /dev/virtio-ports
                ln -sf "/dev/$(basename "$port")" "/dev/virtio-ports/$1"
                return
            fi
        done
        sleep 0.1
    done
    fail "port-$1"
}

# answer: each line that comes goes back. While nobody is attached on the host, reading ends at once.
answer() {
    while :; do
        while read -r line; do
            echo "answer: $line"
        done <>/dev/virtio-ports/agent >&0
        sleep 0.1
    done
}

wait_for_port agent
wait_for_port bulk
answer &
[ -c /dev/hvc0 ] || fail console
say "console=ready"
setsid sh -c 'exec sh -i </dev/hvc0 >/dev/hvc0 2>&1'
kill %1
