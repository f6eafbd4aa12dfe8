#!/bin/bash
# Process 1 of the guest once its root is in place (init.sh): runs the one command it was booted for, and powers off.
# /run/guest/arguments holds env(1)'s arguments, each ended by a NUL; output goes to the port named "output" as it comes,
# the exit status into /run/guest/status at the end.

for port in /sys/class/virtio-ports/*; do
  if [ "$(cat "$port/name")" = output ]; then output=/dev/${port##*/}; fi
done

# A port can be opened once only; the command may open its standard output again.
mkfifo /run/output
cat /run/output >"$output" &
reader=$!

mapfile -d '' -t arguments </run/guest/arguments
env -i "${arguments[@]}" </dev/null >/run/output 2>&1
echo $? >/run/status

# What the command left running keeps the pipe open; it has had its time.
(sleep 5 && kill "$reader") 2>/dev/null &
wait "$reader"
cp /run/status /run/guest/status
exec /run/busybox poweroff -f
