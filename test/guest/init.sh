#!/bin/busybox sh
# The guest's first process, in its initramfs (machine.mjs makes it): puts the root of the machine that runs QEMU below a
# layer of memory, so that everything is there and nothing of it can be changed, and goes on as session.sh inside of it.
#
# By then: /run, /tmp and /var/lib/cni are new and empty; the project is at its own path, read-only; /run/guest is the
# folder shared with machine.mjs; the guest's kernel has its modules where it looks for them; /run/busybox is this program.
# The kernel calls modprobe in the root of process 1, so this process itself has to change its root.

box=/bin/busybox
share='trans=virtio,version=9p2000.L,msize=512000'

quit() {
  echo "guest: $1" >/dev/console
  exec $box poweroff -f
}
mounted() { # TYPE OPTIONS SOURCE PATH
  $box mkdir -p "$4"
  $box mount -t "$1" -o "$2" "$3" "$4" || quit "cannot mount $3 at $4"
}
bound() { # FROM TO
  $box mkdir -p "$2"
  $box mount --bind "$1" "$2" || quit "cannot bind $1 to $2"
}

mounted proc rw proc /proc
mounted sysfs rw sysfs /sys
mounted devtmpfs rw devtmpfs /dev
while read -r module; do
  $box insmod "/modules/$module" || quit "cannot load $module"
done </modules/list

mounted 9p "$share" control /control
IFS= read -r project </control/project
IFS= read -r modules </control/modules
mounted 9p "$share,ro,cache=loose" root /lower
mounted tmpfs rw tmpfs /layer
$box mkdir /layer/upper /layer/work
mounted overlay lowerdir=/lower,upperdir=/layer/upper,workdir=/layer/work overlay /new

bound "/lower$modules" "/new/lib/modules/$($box uname -r)"
mounted tmpfs rw tmpfs /new/run
mounted tmpfs rw tmpfs /new/tmp
mounted tmpfs rw tmpfs /new/var/lib/cni
bound "/lower$project" "/new$project"
$box mkdir -p /new/run/guest /new/run/lock
$box mount --move /control /new/run/guest

mounted proc rw proc /new/proc
mounted sysfs rw sysfs /new/sys
mounted devtmpfs rw devtmpfs /new/dev
mounted devpts ptmxmode=666 devpts /new/dev/pts
mounted tmpfs rw tmpfs /new/dev/shm
mounted cgroup2 rw cgroup2 /new/sys/fs/cgroup
mounted bpf rw bpf /new/sys/fs/bpf
$box ln -s /proc/self/fd /new/dev/fd
$box ln -s /proc/self/fd/0 /new/dev/stdin
$box ln -s /proc/self/fd/1 /new/dev/stdout
$box ln -s /proc/self/fd/2 /new/dev/stderr

$box hostname guest
$box ip link set lo up
echo '127.0.1.1 guest' >>/new/etc/hosts
$box cp $box /new/run/busybox
exec $box switch_root /new /bin/bash "$project/test/guest/session.sh"
