// qemu without hardware virtualisation (TCG): slow, but a whole machine under Debian's own kernel, with two processors on two memory
// nodes, huge pages, PSI, a disk with an I/O scheduler, and every cgroup controller.

/** Measured 22 to 26 s at a load of 3, 60 to 85 s at 6 to 14. */
const BOOT_TIMEOUT_MS = 600_000;

/**
 * The kernel has drivers for NVMe, ext4 and virtiofs built in, so there is no initramfs. virtiofs needs memory that its daemon can
 * map (memfd). The disk's changes go to an unlinked file in TMPDIR; the image is only read, so that user-mode Linux has locked it for
 * another guest is no matter. The second disk is of another kind, as NVMe disks take their numbers in a race. ttyS0 is the command's output and qemu's standard output, ttyS1 the kernel's console.
 */
const LAUNCH = `
for release in "$root"/usr/lib/modules/*; do release=\${release##*/}; done
half=$((memory / 2))
cheap="mitigations=off no5lvl audit=0"
for unit in getty.target sys-kernel-debug.mount sys-kernel-tracing.mount systemd-journalctl.socket systemd-remount-fs.service; do
  cheap="$cheap systemd.mask=$unit"
done
mount --bind "$root/usr/lib/modules" "$root/share/modules"
chroot "$root" /usr/libexec/virtiofsd --shared-dir /share --socket-path /tmp/virtiofsd --sandbox none --cache always \\
  --inode-file-handles=never --rlimit-nofile 0 --log-level error &
until [ -S "$root/tmp/virtiofsd" ]; do kill -0 $!; sleep 0.02; done
TMPDIR=/share/run chroot "$root" /usr/bin/qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot \\
  -accel tcg,thread=multi -cpu max -smp 2 -m "$((half * 2))M" \\
  -object memory-backend-memfd,id=node0,size="\${half}M" -numa node,cpus=0,memdev=node0 \\
  -object memory-backend-memfd,id=node1,size="\${half}M" -numa node,cpus=1,memdev=node1 \\
  -drive if=none,id=disk,snapshot=on,format=raw,file.locking=off,file="/share/images/$image" -device nvme,drive=disk,serial=disk \\
  -drive if=none,id=swap,format=raw,file=/share/run/swap -device virtio-blk-pci,drive=swap \\
  -chardev socket,id=fs,path=/tmp/virtiofsd -device vhost-user-fs-pci,chardev=fs,tag=share \\
  -chardev stdio,id=output,signal=off -serial chardev:output \\
  -chardev file,id=console,path=/share/run/console -serial chardev:console \\
  -kernel "/usr/lib/modules/$release/vmlinuz" -append "root=/dev/nvme0n1 console=ttyS1 $parameters lamina.swap=/dev/vda \\
    panic=-1 psi=1 hugepages=16 $cheap systemd.mount-extra=share:/share:virtiofs:rw \\
    systemd.mount-extra=/share/modules:/usr/lib/modules:none:bind,ro \\
    systemd.mount-extra=/share/repo:/host:none:bind,ro systemd.mount-extra=/share/run/out:/out:none:bind" >&3
`;

/** The machine, see guest.mjs. */
export const QEMU = { about: 'qemu (TCG)', launch: LAUNCH, bootMs: BOOT_TIMEOUT_MS };
