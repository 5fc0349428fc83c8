# Installs an older version of a package of sshd-mend, whose repair unit has a start limit of 7.
# Usage: previous_version.sh PACKAGE
work=$(mktemp -d)
dpkg-deb -R "$1" "$work/tree"
sed -i 's/^Version: .*/Version: 0.0.9/' "$work/tree/DEBIAN/control"
sed -i 's/^StartLimitBurst=.*/StartLimitBurst=7/' "$work/tree/usr/lib/systemd/system/sshd-mend-repair.service"
dpkg-deb -b "$work/tree" "$work/before.deb"
dpkg -i "$work/before.deb"
rm -r "$work"
