//! Each function of `Sys`, called from JavaScript against the real system.

use std::fs;
use std::path::PathBuf;

use rquickjs::{CatchResultExt, Context, Ctx, Runtime};
use weft_runtime::sys;

/// A folder of the test's own, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("weft-runtime-{}-{name}", std::process::id()));
        fs::create_dir(&path).expect("a new folder");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What scripts here use besides `Sys`.
const HELPERS: &str = r"
    'use strict';
    const text = (buffer) => Sys.decodeUtf8(buffer, 0, buffer.byteLength);
    const put = (fd, value) => { const b = Sys.encodeUtf8(value); return Sys.write(fd, b, 0, b.byteLength); };
    const int = (value) => new Int32Array([value]).buffer;
    const equal = (actual, expected) => {
        const [a, e] = [actual, expected].map((value) => JSON.stringify(value));
        if (a !== e) throw new Error(`got ${a} instead of ${e}`);
    };
    const thrown = (run) => { try { run(); } catch (error) { return error.name; } return 'nothing'; };
    const E = { ENOENT: -2, EBADF: -9, EAGAIN: -11, EEXIST: -17, ENOTDIR: -20, EINVAL: -22, ENOTEMPTY: -39,
        ENOTSOCK: -88, EAFNOSUPPORT: -97 };
    const O = { RDONLY: 0, WRONLY: 1, RDWR: 2, CREAT: 0o100, EXCL: 0o200 };
";

/// Runs a script in which `dir` is the scratch folder; an exception is the test's failure.
fn script(name: &str, source: &str) {
    let scratch = Scratch::new(name);
    let runtime = Runtime::new().expect("an engine");
    let context = Context::full(&runtime).expect("a context");
    context.with(|ctx: Ctx<'_>| {
        sys::install(&ctx, vec!["program".into()]).expect("Sys");
        let whole = format!(
            "(() => {{ {HELPERS} const dir = '{}'; {source} }})()",
            scratch.0.display()
        );
        if let Err(error) = ctx.eval::<(), _>(whole).catch(&ctx) {
            panic!("{name}: {error}");
        }
    });
}

#[test]
fn opens_reads_and_writes_files() {
    script(
        "files",
        r"
        const path = `${dir}/a`;
        equal(Sys.open(path, O.RDONLY, 0), E.ENOENT);
        const fd = Sys.open(path, O.RDWR | O.CREAT | O.EXCL, 0o640);
        equal(Sys.open(path, O.RDWR | O.CREAT | O.EXCL, 0o640), E.EEXIST);
        equal([put(fd, 'héllo'), Sys.fsync(fd), Sys.ftruncate(fd, 3)], [6, 0, 0]);
        const status = Sys.fstat(fd);
        equal([status.mode & 0o177777, status.size], [0o100640, 3]);
        equal(Sys.stat(path), status);
        equal(Math.abs(status.mtimeMs - Sys.clock_gettime(0)) < 60_000, true);
        equal([Sys.close(fd), Sys.close(fd), Sys.fstat(fd)], [0, E.EBADF, E.EBADF]);
        const again = Sys.open(path, O.RDONLY, 0);
        const buffer = new ArrayBuffer(8);
        equal(Sys.read(again, buffer, 2, 6), 3);
        equal(Sys.decodeUtf8(buffer, 2, 3), 'hé');
        equal([Sys.read(again, buffer, 0, 8), Sys.write(again, buffer, 0, 1)], [0, E.EBADF]);
        equal([Sys.ftruncate(again, 0), Sys.ftruncate(again, -1), Sys.close(again)], [E.EINVAL, E.EINVAL, 0]);
        equal([Sys.open(path + '\0', 0, 0), Sys.open(path + '/b', 0, 0)], [E.EINVAL, E.ENOTDIR]);
        ",
    );
}

#[test]
fn refuses_descriptors_that_are_not_open() {
    script(
        "descriptors",
        r"
        for (const fd of [-1, -2147483648, 99999]) {
            const buffer = new ArrayBuffer(4);
            equal([Sys.read(fd, buffer, 0, 4), Sys.write(fd, buffer, 0, 4), Sys.close(fd)], [E.EBADF, E.EBADF, E.EBADF]);
            equal([Sys.fsync(fd), Sys.ftruncate(fd, 0), Sys.fstat(fd), Sys.flock(fd, 2)], [E.EBADF, E.EBADF, E.EBADF, E.EBADF]);
            equal([Sys.bind(fd, buffer), Sys.setsockopt(fd, 1, 8, buffer), Sys.setns(fd, 0)], [E.EBADF, E.EBADF, E.EBADF]);
            equal([Sys.recv(fd, buffer, 0, 4, 0), Sys.sendto(fd, buffer, 0, 4, 0, null)], [E.EBADF, E.EBADF]);
        }
        ",
    );
}

#[test]
fn handles_names_of_files() {
    script(
        "names",
        r"
        equal([Sys.mkdir(`${dir}/d`, 0o755), Sys.mkdir(`${dir}/d`, 0o755)], [0, E.EEXIST]);
        Sys.close(Sys.open(`${dir}/d/a`, O.WRONLY | O.CREAT, 0o600));
        equal([Sys.link(`${dir}/d/a`, `${dir}/d/b`), Sys.link(`${dir}/d/a`, `${dir}/d/b`)], [0, E.EEXIST]);
        equal(Sys.stat(`${dir}/d/a`).ino, Sys.stat(`${dir}/d/b`).ino);
        equal(Sys.getdents(`${dir}/d`).sort(), ['a', 'b']);
        equal([Sys.getdents(`${dir}/x`), Sys.getdents(`${dir}/d/a`)], [E.ENOENT, E.ENOTDIR]);
        equal([Sys.rmdir(`${dir}/d`), Sys.rename(`${dir}/d/b`, `${dir}/c`), Sys.unlink(`${dir}/d/b`)], [E.ENOTEMPTY, 0, E.ENOENT]);
        equal([Sys.unlink(`${dir}/d/a`), Sys.rmdir(`${dir}/d`), Sys.getdents(dir)], [0, 0, ['c']]);
        equal([Sys.utimensat(`${dir}/c`, 1.5e12 + 250), Sys.stat(`${dir}/c`).mtimeMs], [0, 1.5e12 + 250]);
        equal([Sys.utimensat(`${dir}/x`, 0), Sys.utimensat(dir, NaN)], [E.ENOENT, E.EINVAL]);
        equal([Sys.readlink(`${dir}/c`), Sys.readlink('/proc/self').length > 0], [E.EINVAL, true]);
        equal([Sys.readlink(`/proc/self/fd/${Sys.open(dir, O.RDONLY, 0)}`), Sys.stat(`${dir}/x`)], [dir, E.ENOENT]);
        ",
    );
}

#[test]
fn opens_close_on_exec() {
    script(
        "cloexec",
        r"
        const flags = (fd) => {
            const info = Sys.open(`/proc/self/fdinfo/${fd}`, O.RDONLY, 0);
            const buffer = new ArrayBuffer(512);
            const read = Sys.read(info, buffer, 0, 512);
            Sys.close(info);
            return parseInt(/flags:\s*(\d+)/.exec(Sys.decodeUtf8(buffer, 0, read))[1], 8) & 0o2000000;
        };
        equal(flags(Sys.open('/dev/null', O.RDONLY, 0)), 0o2000000);
        equal(flags(Sys.socket(1, 1, 0)), 0o2000000);
        ",
    );
}

#[test]
fn locks_files() {
    script(
        "locks",
        r"
        const [LOCK_SH, LOCK_EX, LOCK_NB, LOCK_UN] = [1, 2, 4, 8];
        const [a, b] = [1, 2].map(() => Sys.open(`${dir}/lock`, O.RDWR | O.CREAT, 0o600));
        equal([Sys.flock(a, LOCK_EX), Sys.flock(b, LOCK_EX | LOCK_NB), Sys.flock(b, LOCK_SH | LOCK_NB)], [0, E.EAGAIN, E.EAGAIN]);
        equal([Sys.flock(a, LOCK_UN), Sys.flock(b, LOCK_SH), Sys.flock(a, LOCK_SH), Sys.flock(a, 3)], [0, 0, 0, E.EINVAL]);
        ",
    );
}

#[test]
fn speaks_netlink() {
    script(
        "netlink",
        r"
        const [AF_NETLINK, SOCK_RAW, SOL_SOCKET, SO_RCVBUF, MSG_DONTWAIT, MSG_TRUNC] = [16, 3, 1, 8, 0x40, 0x20];
        const fd = Sys.socket(AF_NETLINK, SOCK_RAW, 0);
        const address = new ArrayBuffer(12);
        new DataView(address).setUint16(0, AF_NETLINK, true);
        equal([Sys.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, int(65536)), Sys.bind(fd, address)], [0, 0]);
        equal([Sys.setsockopt(fd, SOL_SOCKET, 9999, int(1)), Sys.poll(fd, 1)], [-92, 0]);
        equal(Sys.recv(fd, address, 0, 12, MSG_DONTWAIT), E.EAGAIN);
        // RTM_GETLINK of interface 1, by index
        const request = new ArrayBuffer(40);
        const view = new DataView(request);
        [[4, 32], [24, 1]].forEach(([offset, value]) => view.setUint32(offset, value, true));
        view.setUint16(8, 18, true);
        view.setUint16(10, 1, true);
        equal(Sys.sendto(fd, request, 4, 32, 0, null), 32);
        equal(Sys.poll(fd, -1), 1);
        const reply = new ArrayBuffer(16);
        equal(Sys.recv(fd, reply, 0, 16, MSG_TRUNC) > 16, true);
        equal(new DataView(reply).getUint16(4, true), 16); // RTM_NEWLINK
        equal(Sys.sendto(fd, request, 4, 32, 0, address), 32);
        equal([Sys.socket(99, 1, 0), Sys.socket(-1, 1, 0), Sys.poll(99999, 0)], [E.EAFNOSUPPORT, E.EAFNOSUPPORT, 1]);
        equal(Sys.recv(Sys.open('/dev/null', O.RDONLY, 0), reply, 0, 16, 0), E.ENOTSOCK);
        ",
    );
}

#[test]
fn spawns_processes() {
    script(
        "spawn",
        r"
        const empty = new ArrayBuffer(0);
        const sh = (command, stdin, environment = []) => Sys.spawn('/bin/sh', ['shell', '-c', command], environment, stdin);
        const result = sh('echo $0 $A; cat; echo oops >&2; exit 3', Sys.encodeUtf8('in'), ['A=1 2', 'B']);
        equal([result.status, text(result.stdout), text(result.stderr)], [3, 'shell 1 2\nin', 'oops\n']);
        // More than a pipe holds, both ways at once, and a child that reads nothing of it.
        const large = new ArrayBuffer(1_000_000);
        const echo = sh('cat /dev/zero | head -c 500000; cat', large);
        equal([echo.status, echo.stdout.byteLength], [0, 1_500_000]);
        equal([sh('exit 0', large).status, sh('kill -9 $$', empty).status, sh('env | grep -c FOO', empty).status], [0, 137, 1]);
        equal([Sys.spawn(`${dir}/x`, ['x'], [], empty), Sys.spawn('/etc/passwd', ['x'], [], empty)], [E.ENOENT, -13]);
        equal([Sys.spawn('/bin/sh', ['sh', 'a\0'], [], empty), Sys.spawn('/bin/true', [], [], empty).status], [E.EINVAL, 0]);
        ",
    );
}

#[test]
fn tells_of_its_process() {
    script(
        "process",
        r"
        equal([Sys.argv.length > 0, Sys.getpid() > 0, Sys.geteuid() >= 0], [true, true, true]);
        equal(Sys.environ().some((entry) => entry.startsWith('PATH=')), true);
        const [real, monotonic] = [Sys.clock_gettime(0), Sys.clock_gettime(1)];
        equal([real > 1.7e12, Sys.clock_gettime(1) >= monotonic, Sys.clock_gettime(99)], [true, true, E.EINVAL]);
        const random = new ArrayBuffer(64);
        equal([Sys.getrandom(random, 16, 32), Sys.getrandom(random, 0, 0)], [32, 0]);
        const bytes = new Uint8Array(random);
        equal([bytes[15], bytes[48], bytes.subarray(16, 48).some((byte) => byte !== 0)], [0, 0, true]);
        equal([Sys.setns(0, 0x40000000) < 0, Sys.setns(0, 12345)], [true, E.EINVAL]);
        ",
    );
}

#[test]
fn enters_namespaces() {
    script(
        "setns",
        r"
        if (Sys.geteuid() !== 0) return;
        const path = '/proc/thread-self/ns/net';
        const own = Sys.open(path, O.RDONLY, 0);
        equal([Sys.setns(own, 0x40000000), Sys.setns(own, 0), Sys.stat(path).ino], [0, 0, Sys.fstat(own).ino]);
        ",
    );
}

#[test]
fn converts_text() {
    script(
        "text",
        r"
        for (const value of ['', 'a', 'é', '\u{10ffff}', '\ufeffb', 'a\0b']) equal(text(Sys.encodeUtf8(value)), value);
        equal(text(Sys.encodeUtf8('a\ud800b\udc00')), 'a\ufffdb\ufffd');
        equal(text(new Uint8Array([0x61, 0xff, 0xe2, 0x82, 0x62]).buffer), 'a\ufffd\ufffdb');
        equal([Sys.encodeUtf8('é').byteLength, Sys.decodeUtf8(Sys.encodeUtf8('xyz'), 1, 1)], [2, 'y']);
        ",
    );
}

#[test]
fn throws_for_mistakes_of_the_program() {
    script(
        "mistakes",
        r"
        const buffer = new ArrayBuffer(4);
        for (const [offset, length] of [[0, 5], [5, 0], [4, 1], [-1, 1], [0, -1], [0.5, 1], [0, NaN], [2 ** 53, 1], [0, Infinity]]) {
            equal(thrown(() => Sys.read(0, buffer, offset, length)), 'RangeError');
            equal(thrown(() => Sys.decodeUtf8(buffer, offset, length)), 'RangeError');
        }
        equal(Sys.decodeUtf8(buffer, 4, 0), '');
        equal(thrown(() => Sys.open(1, 0, 0)), 'TypeError');
        equal(thrown(() => Sys.open('/')), 'TypeError');
        equal(thrown(() => Sys.read(0, new Uint8Array(4), 0, 4)), 'TypeError');
        equal(thrown(() => Sys.spawn('/bin/true', 'true', [], buffer)), 'TypeError');
        ",
    );
}

#[test]
fn another_process_sends_a_message() {
    script(
        "clone",
        r"
        const [NETLINK, RAW, WNOHANG] = [16, 3, 1];
        const fd = Sys.socket(NETLINK, RAW, 0);
        // RTM_GETLINK of interface 1, the loopback.
        const request = new ArrayBuffer(32);
        const view = new DataView(request);
        view.setUint32(0, 32, true);
        view.setUint16(4, 18, true);
        view.setUint16(6, 1, true);
        view.setUint32(8, 77, true);
        view.setInt32(20, 1, true);
        equal(Sys.clone_sendto(fd, new ArrayBuffer(513), 0, 513), -90);
        equal(Sys.clone_sendto(-1, request, 0, 32), E.EBADF);
        equal(thrown(() => Sys.clone_sendto(fd, request, 0, 33)), 'RangeError');
        const child = Sys.clone_sendto(fd, request, 0, 32);
        equal([child > 0, child !== Sys.getpid()], [true, true]);
        const answer = new ArrayBuffer(8192);
        equal(Sys.recv(fd, answer, 0, 8192, 0) > 32, true);
        equal([new DataView(answer).getUint16(4, true), new DataView(answer).getUint32(8, true)], [16, 77]);
        equal(Sys.waitpid(child, 0), child);
        equal([Sys.waitpid(child, WNOHANG), Sys.waitpid(0, WNOHANG)], [-10, -10]);
        equal(Sys.clone_sendto(fd, request, 0, 32), -16);
        equal(Sys.getppid() > 0, true);
        ",
    );
}
