//! The name of this machine, as uname(2) gives it: no name service is asked.

use crate::model::printable::printable_bytes;

/// The node name, printable: root may have set it to any bytes.
pub fn name() -> String {
    printable_bytes(rustix::system::uname().nodename().to_bytes())
}
