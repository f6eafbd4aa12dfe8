//! The runtime: runs the program in this executable's archive. `weft-compile` appends it.

fn main() {
    weft_runtime::host::run()
}
