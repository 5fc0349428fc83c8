# Makes a directory that can be entered with chroot: the machine's own /usr and /etc, and a /var of its own.
# Usage: chroot.sh DIRECTORY
root=$1
mkdir "$root"
for directory in usr etc; do
    mkdir "$root/$directory"
    mount --bind "/$directory" "$root/$directory"
done
for link in bin lib lib64 sbin; do ln -s "usr/$link" "$root/$link"; done
mkdir "$root/proc" "$root/run" "$root/tmp" "$root/dev" "$root/var"
cp -a /var/lib "$root/var/"
mkdir -p "$root/var/log" "$root/var/cache/apt/archives/partial"
cp -r /opt "$root/"
mknod -m 666 "$root/dev/null" c 1 3
