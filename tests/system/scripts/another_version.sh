# Makes another version of a package of sshd-mend, whose repair unit has a start limit of 7.
# Usage: another_version.sh PACKAGE VERSION RESULT
work=$(mktemp -d)
dpkg-deb -R "$1" "$work/tree"
sed -i "s/^Version: .*/Version: $2/" "$work/tree/DEBIAN/control"
sed -i 's/^StartLimitBurst=.*/StartLimitBurst=7/' "$work/tree/usr/lib/systemd/system/sshd-mend-repair.service"
dpkg-deb -b "$work/tree" "$3"
rm -r "$work"
