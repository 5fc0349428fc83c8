# Installs version 1 of the packages aaa and zzz, and puts version 2 into the archive /opt/lab: one upgrade before
# openssh-server's, and one after.
cd /opt/lab
for name in aaa zzz; do
    for version in 1 2; do
        mkdir -p build/DEBIAN
        cat >build/DEBIAN/control <<C
Package: $name
Version: $version
Architecture: all
Maintainer: x <x@example.org>
Description: x
C
        dpkg-deb -b build "$name-$version.deb"
    done
    dpkg -i "$name-1.deb"
    rm "$name-1.deb"
done
apt-ftparchive packages . >Packages
apt-ftparchive -o APT::FTPArchive::Release::Origin=lab release . >Release
apt-get -q update
