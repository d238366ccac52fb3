// Prints accounts.jsonl: 1,000 accounts, of which 500 have hashes of npm's bcrypt and 500 of npm's
// firebase-scrypt. See README.md.
import { randomBytes } from "node:crypto";

import bcrypt from "bcrypt";
import { FirebaseScrypt } from "firebase-scrypt";

const ACCOUNTS = 1000;
const BCRYPT_COST = 10;

const project = {
  memCost: 14,
  rounds: 8,
  saltSeparator: "Bw==",
  signerKey: randomBytes(64).toString("base64"),
};

const print = (line) => console.log(JSON.stringify(line));

print({
  hash_config: {
    algorithm: "SCRYPT",
    base64_signer_key: project.signerKey,
    base64_salt_separator: project.saltSeparator,
    rounds: project.rounds,
    mem_cost: project.memCost,
  },
});
const scrypt = new FirebaseScrypt(project);
for (let number = 0; number < ACCOUNTS; number += 1) {
  const password = `old password ${number}`;
  const username = `user${number}`;
  if (number % 2 === 0) {
    print({ username, password_hash: await bcrypt.hash(password, BCRYPT_COST) });
  } else {
    const salt = randomBytes(12).toString("base64");
    print({ username, firebase: { hash: await scrypt.hash(password, salt), salt } });
  }
}
