// The official SDK against the double: what passes here is what the SDK takes for Vercel.
// FAKE_URL: the double without `/api`; the other settings are those of the double.
import assert from "node:assert/strict";
import { Sandbox, Snapshot } from "@vercel/sandbox";

const base = process.env.FAKE_URL;
const viaDouble = (url, init) => fetch(String(url).replace("https://vercel.com/", `${base}/`), init);
const login = {
  token: process.env.FAKE_TOKEN,
  teamId: process.env.FAKE_TEAM,
  projectId: process.env.FAKE_PROJECT,
  fetch: viaDouble,
};

const sandbox = await Sandbox.create({
  ...login,
  name: "official-1",
  persistent: false,
  timeout: 600_000,
  ports: [3000],
  resources: { vcpus: 4 },
  env: { FROM_SANDBOX: "yes" },
  tags: { suite: "official" },
  networkPolicy: { allow: ["github.com"] },
});
assert.match(sandbox.domain(3000), /^https:\/\/.*\.vercel\.run$/);

// Exit codes, and both streams apart.
const ran = await sandbox.runCommand({ cmd: "sh", args: ["-c", "echo out $FROM_SANDBOX; echo err >&2; exit 3"] });
assert.equal(ran.exitCode, 3);
assert.equal(await ran.stdout(), "out yes\n");
assert.equal(await ran.stderr(), "err\n");

// A time limit is 137, a signal 128 and its number.
const late = await sandbox.runCommand({ cmd: "sleep", args: ["60"], timeoutMs: 300 });
assert.equal(late.exitCode, 137);
const detached = await sandbox.runCommand({ cmd: "sleep", args: ["60"], detached: true });
await detached.kill();
assert.equal((await detached.wait()).exitCode, 143);

// A log stream of a detached command, in order.
const counting = await sandbox.runCommand({ cmd: "seq", args: ["1", "500"], detached: true });
let counted = "";
for await (const line of counting.logs()) counted += line.data;
assert.equal(counted, Array.from({ length: 500 }, (_, i) => `${i + 1}\n`).join(""));

// Files: long and foreign names, modes, one that is missing.
const long = `${"d".repeat(120)}/${"n".repeat(130)}.txt`;
await sandbox.writeFiles([
  { path: "a/b.txt", content: Buffer.from("plain") },
  { path: long, content: Buffer.from("long") },
  { path: "ünï.txt", content: Buffer.from("föreign") },
  { path: "x.sh", content: Buffer.from("#!/bin/sh\necho ran\n"), mode: 0o755 },
]);
const text = async (path) => (await sandbox.readFileToBuffer({ path }))?.toString() ?? null;
assert.equal(await text("a/b.txt"), "plain");
assert.equal(await text(long), "long");
assert.equal(await text("ünï.txt"), "föreign");
assert.equal(await text("missing.txt"), null);
assert.equal(await (await sandbox.runCommand({ cmd: "./x.sh" })).stdout(), "ran\n");
await sandbox.mkDir("made");
assert.equal((await sandbox.runCommand({ cmd: "test", args: ["-d", "made"] })).exitCode, 0);

await sandbox.extendTimeout(60_000);
await sandbox.updateNetworkPolicy("deny-all");

// Two more, listed on two pages.
for (const name of ["official-2", "official-3"]) {
  await Sandbox.create({ ...login, name, persistent: false, tags: { suite: "official" } });
}
const names = [];
for await (const one of await Sandbox.list({ ...login, limit: 2, tags: { suite: "official" } })) names.push(one.name);
assert.deepEqual(names.sort(), ["official-1", "official-2", "official-3"]);
assert.equal((await Sandbox.get({ ...login, name: "official-2" })).name, "official-2");

// A snapshot ends its sandbox, and another starts from it.
const snapshot = await sandbox.snapshot();
const warm = await Sandbox.create({
  ...login,
  persistent: false,
  source: { type: "snapshot", snapshotId: snapshot.snapshotId },
});
assert.equal((await warm.readFileToBuffer({ path: "a/b.txt" })).toString(), "plain");
const found = await Snapshot.get({ ...login, snapshotId: snapshot.snapshotId });
await found.delete();
await assert.rejects(
  Sandbox.create({ ...login, source: { type: "snapshot", snapshotId: snapshot.snapshotId } }),
);

// What is stopped answers no more, but the SDK wakes the sandbox for a new command.
const endless = await warm.runCommand({ cmd: "sleep", args: ["60"], detached: true });
await warm.stop();
await assert.rejects(endless.wait());
assert.equal((await warm.runCommand("true")).exitCode, 0);
await warm.stop();

// What is deleted is gone.
await warm.delete();
for (const name of ["official-2", "official-3"]) await (await Sandbox.get({ ...login, name })).delete();
await assert.rejects(Sandbox.get({ ...login, name: "official-2" }));
console.log("the official SDK is content");
