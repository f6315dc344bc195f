# visit.sh CONTROL: somebody who sits at the console of a machine with that control socket and asks its
# agent, through `outrigger console` (the guest's side is `desk` in console.sh).

control=$1

say() {
    echo "OUTRIGGER $*"
}

fail() {
    say "failed=$*"
    tail -n 20 con.screen agent.screen
    exit 1
}

# sees SCREEN TEXT: waits until it is there, at the end of a line or not.
sees() {
    for _ in $(seq 200); do
        grep -qF "$2" "$1" && return
        usleep 100000
    done
    fail "$1 without $2"
}

# enter TEXT SCREEN: types a line at the console, on a screen that was wiped.
enter() {
    : > con.screen
    echo "$1" >&3
}

# order JSON: has the console's daemon do something.
order() {
    outrigger ctl "$control" device console0 "$1" >/dev/null || fail "$1"
}

# sit NAME: attaches to a port; what is written to descriptor 3 is typed.
sit() {
    rm -f keys
    mkfifo keys
    outrigger console --control "$control" con <keys >>con.screen 2>&1 &
    seat=$!
    exec 3>keys
    # What was kept for whoever comes is none of the answers.
    sleep 2
}

# log_in: a name that is given before it is asked for is lost.
log_in() {
    for _ in $(seq 20); do
        enter root
        sleep 2
        grep -qF "Password: " con.screen && break
    done
    enter secret
    sees con.screen "# "
}

: > con.screen
until outrigger ctl "$control" status >/dev/null 2>&1; do usleep 100000; done
for port in agent bulk; do
    order '{"cmd":"add-port","name":"'$port'","backend":"null"}'
done

for user in first second; do
    sit
    log_in
    enter 'echo $((6 * 7))'
    sees con.screen 42
    order '{"cmd":"resize","cols":132,"rows":43}'
    enter 'sleep 1; stty size'
    sees con.screen "43 132"
    (echo kernel; sleep 5) | timeout 6 outrigger console --control "$control" agent >agent.screen 2>&1 &
    sees agent.screen "kernel "
    say "agent=$(grep -o 'kernel [^ ]*' agent.screen | tr -d '\r' | head -n 1)"
    enter exit
    sees con.screen exit
    # It has arrived by then.
    sleep 1
    say "left=$user"
    exec 3>&-
    kill $seat
    wait $seat
done
say "visited=ok"
