#!/bin/sh
# Runs inside the guest as lamina-vm.service: puts the installed tree in place, runs the command of this VM run, and leaves its
# exit status in /out/status. Output goes to ttyS0, which the runner on the host reads.
stty -F /dev/ttyS0 raw -echo
exec </dev/null >/dev/ttyS0 2>&1
echo "guest: up after $(cut -d. -f1 /proc/uptime) s"

if [ -d /host/build/install ]; then
  cp -a /host/build/install /opt/lamina
  ln -sf /opt/lamina/bin/* /usr/local/bin/
fi
if ! systemctl is-active --quiet containerd && [ "$(systemctl is-enabled containerd)" = enabled ]; then
  echo "guest: containerd is not running"
  systemctl --no-pager --full status containerd
fi

# A kubelet's pods get a copy of it, and trixie has none.
[ -f /etc/hosts ] || echo '127.0.0.1 localhost' > /etc/hosts

# Off until a test turns it on: with swap, what is meant to run out of memory takes long to.
for word in $(cat /proc/cmdline); do case $word in lamina.swap=*) LAMINA_TEST_SWAP=${word#*=} ;; esac; done
[ -b "$LAMINA_TEST_SWAP" ] || modprobe virtio_blk
mkswap --quiet "$LAMINA_TEST_SWAP"
export LAMINA_TEST_SWAP LAMINA_TEST_RESULTS=/out/results

# The Node that Lamina brings, not the guest's.
export PATH="/host/node_modules/.bin:$PATH"

sh /out/job
status=$?
[ -f /out/collect-journal ] && journalctl -b --no-pager > /out/journal
echo "$status" > /out/status.new && mv /out/status.new /out/status
sync
