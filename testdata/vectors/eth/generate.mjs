// Computes the vectors that no standard publishes, with an implementation that
// shares no code with the one under test:
//
//   npm install ethers@6.17.0 && node generate.mjs
//
// writes eip2930.json, eip1559.json, eip4844.json, eip7702.json, erc4337.json
// and eip712-shapes.json into the current directory. The other files hold
// published vectors and are written by hand.
import { writeFileSync } from "node:fs";
import {
  Transaction, TypedDataEncoder, Wallet, concat, getAddress,
  hashAuthorization, keccak256, toBeHex, toQuantity, toUtf8Bytes, version,
} from "ethers";

const source = (what) => `${what}; computed with ethers ${version} by generate.mjs`;
const wallet = new Wallet(keccak256(toUtf8Bytes("cow")));
const other = new Wallet(keccak256(toUtf8Bytes("dog")));
const to = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8";
const gwei = (n) => n * 10n ** 9n;
const q = toQuantity;
const accessList = [
  { address: "0x8ba1f109551bd432803012645ac136ddd64dba72", storageKeys: [toBeHex(1, 32), toBeHex(2n ** 255n, 32)] },
  { address: to, storageKeys: [] },
];
const slots = accessList.map(({ address, storageKeys }) => ({ address: getAddress(address), storageKeys }));
const fees = { maxFeePerGas: gwei(40n), maxPriorityFeePerGas: gwei(2n) };
const hexed = (o) => Object.fromEntries(Object.entries(o).map(([k, v]) => [k, typeof v === "bigint" ? q(v) : v]));

function vector(comment, type, fields, request) {
  const tx = Transaction.from({ type, ...fields });
  tx.signature = wallet.signingKey.sign(tx.unsignedHash);
  return {
    comment, transaction: request, privateKey: wallet.privateKey, from: wallet.address,
    digest: tx.unsignedHash, raw: tx.serialized, hash: tx.hash,
  };
}

function call(type, extra, request, comment) {
  const fields = { chainId: 1n, nonce: 7, gasLimit: 90000n, to, value: 10n ** 17n, data: "0xa9059cbb00ff", ...extra };
  const { gasLimit, nonce, accessList: _, authorizationList: __, ...rest } = fields;
  const shown = { type: q(type), ...hexed(rest), nonce: q(nonce), gas: q(gasLimit), ...request };
  return vector(comment, type, fields, shown);
}

const write = (name, what, vectors) =>
  writeFileSync(name, JSON.stringify({ source: source(what), vectors }, null, 2) + "\n");

write("eip2930.json", "EIP-2930, https://eips.ethereum.org/EIPS/eip-2930", [
  call(1, { gasPrice: gwei(30n), accessList: slots }, { accessList }, "with an access list"),
  call(1, { gasPrice: gwei(30n), chainId: 137n, accessList: [] }, { accessList: [] }, "with an empty access list"),
  vector("contract creation", 1,
    { chainId: 1n, nonce: 0, gasLimit: 200000n, to: null, value: 0n, data: "0x6001600055", gasPrice: 1n, accessList: [] },
    { type: "0x1", chainId: "0x1", nonce: "0x0", gas: "0x30d40", to: null, data: "0x6001600055", gasPrice: "0x1", accessList: [] }),
]);

write("eip1559.json", "EIP-1559, https://eips.ethereum.org/EIPS/eip-1559", [
  call(2, fees, {}, "a call without an access list"),
  call(2, { ...fees, accessList: slots, chainId: 42161n }, { accessList }, "with an access list, on Arbitrum"),
  call(2, { ...fees, maxFeePerGas: gwei(2n), data: "0x", chainId: 9223372036854775771n }, {}, "a transfer on the largest chain id, both fees equal"),
  vector("contract creation, type inferred", 2,
    { chainId: 10n, nonce: 2 ** 40, gasLimit: 3000000n, to: null, value: 1n, data: "0x60806040", ...fees },
    { chainId: "0xa", nonce: q(2 ** 40), gasLimit: q(3000000), value: "0x1", input: "0x60806040", ...hexed(fees) }),
]);

const zeroBlob = "0x" + "00".repeat(131072);
const infinity = "0xc0" + "00".repeat(47);
const zeroHash = "0x010657f37554c781402a22917dee2f75def7ab966d7b770905398eba3c444014";
const blobFees = { ...fees, maxFeePerBlobGas: 3n };
const hashes = [zeroHash, "0x01" + "ab".repeat(31)];
const bare = call(3, { ...blobFees, blobVersionedHashes: hashes }, {}, "without a sidecar, two blobs");
const full = call(3, { ...blobFees, blobVersionedHashes: [zeroHash] }, {}, "with a version 0 sidecar of one blob of zeros, whose commitment and proof are the point at infinity");
{
  const tx = Transaction.from(full.raw);
  tx.blobs = [{ data: zeroBlob, commitment: infinity, proof: infinity }];
  full.zeroBlobs = 1;
  full.rawKeccak = keccak256(tx.serialized);
}
write("eip4844.json", "EIP-4844, https://eips.ethereum.org/EIPS/eip-4844", [bare, full]);

function authorization(signer, chainId, address, nonce) {
  const digest = hashAuthorization({ chainId, address, nonce });
  const signature = signer.signingKey.sign(digest);
  return {
    authorization: { chainId: q(chainId), address, nonce: q(nonce) },
    privateKey: signer.privateKey, from: signer.address, digest,
    signed: {
      chainId: q(chainId), address: address.toLowerCase(), nonce: q(nonce),
      yParity: q(signature.yParity), r: q(signature.r), s: q(signature.s),
    },
    ethers: { chainId, address, nonce, signature },
  };
}
const auths = [
  authorization(wallet, 0n, "0x63c0c19a282a1b52b07dd5a65b58948a07dae32b", 0n),
  authorization(other, 1n, "0x0000000000000000000000000000000000000000", 12n),
  authorization(wallet, 1n, "0x63c0c19a282a1B52b07dD5a65b58948A07DAE32B", 8n),
];
const setCode = call(4, { ...fees, authorizationList: auths.map((a) => a.ethers) },
  { authorizationList: auths.map((a) => a.signed) }, "with three authorizations");
writeFileSync("eip7702.json", JSON.stringify({
  source: source("EIP-7702, https://eips.ethereum.org/EIPS/eip-7702"),
  vectors: [setCode],
  authorizations: auths.map(({ ethers: _, ...rest }) => rest),
}, null, 2) + "\n");

function typed(comment, types, primaryType, domain, message) {
  const { EIP712Domain, ...structs } = types;
  return {
    comment, typedData: { types, primaryType, domain, message },
    privateKey: wallet.privateKey, from: wallet.address,
    domainSeparator: TypedDataEncoder.hashDomain(domain),
    digest: TypedDataEncoder.hash(domain, structs, message),
    signature: wallet.signingKey.sign(TypedDataEncoder.hash(domain, structs, message)).serialized,
  };
}
const f = (text) => text.split(", ").map((part) => ({ type: part.split(" ")[0], name: part.split(" ")[1] }));
const contract = "0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC";
write("eip712-shapes.json", "EIP-712, https://eips.ethereum.org/EIPS/eip-712, the shapes that its example does not have", [
  typed("every kind of atom at its edges", {
    EIP712Domain: f("string name"),
    Atoms: f("address a, bool b, bool c, string d, bytes e, bytes1 f, bytes32 g, uint8 h, uint256 i, int8 j, int256 k, int256 l, uint64 m, int128 n"),
  }, "Atoms", { name: "atoms" }, {
    a: to, b: true, c: false, d: "ünïcödé ☃ 🦊", e: "0x", f: "0xff", g: "0x" + "0f".repeat(32), h: 255,
    i: (2n ** 256n - 1n).toString(), j: -128, k: (-(2n ** 255n)).toString(), l: "0x" + "7f".padEnd(64, "f"), m: "18446744073709551615", n: "-1",
  }),
  typed("arrays of atoms, fixed, open, nested and empty", {
    EIP712Domain: f("string name, string version, uint256 chainId, address verifyingContract, bytes32 salt"),
    Arrays: f("uint256[] open, uint8[3] fixed, string[2][] nested, bytes[][2] deep, address[] none, bool[1] one"),
  }, "Arrays", { name: "arrays", version: "2", chainId: 5, verifyingContract: contract, salt: "0x" + "5a".repeat(32) }, {
    open: [0, 1, "2"], fixed: [1, 2, 3], nested: [["a", "b"], ["", "☃"]], deep: [["0x", "0x00"], []], none: [], one: [true],
  }),
  typed("structs in structs and in arrays, referred to out of order", {
    EIP712Domain: f("uint256 chainId, address verifyingContract"),
    Zebra: f("Ant ant, Bee[] bees, Bee[2][] grid"), Bee: f("uint256 id, Ant[] ants"), Ant: f("bytes4 tag, Cow cow"), Cow: f("string moo"),
  }, "Zebra", { chainId: 1, verifyingContract: contract }, {
    ant: { tag: "0x01020304", cow: { moo: "moo" } },
    bees: [{ id: 1, ants: [] }, { id: "0x02", ants: [{ tag: "0xffffffff", cow: { moo: "" } }] }],
    grid: [[{ id: 3, ants: [] }, { id: 4, ants: [] }]],
  }),
  typed("EIP-2612 Permit", {
    EIP712Domain: f("string name, string version, uint256 chainId, address verifyingContract"),
    Permit: f("address owner, address spender, uint256 value, uint256 nonce, uint256 deadline"),
  }, "Permit", { name: "USD Coin", version: "2", chainId: 1, verifyingContract: "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48" }, {
    owner: wallet.address, spender: to, value: (2n ** 256n - 1n).toString(), nonce: 0, deadline: 1900000000,
  }),
  typed("a colon in the primary type, as the exchange Hyperliquid has it", {
    EIP712Domain: f("string name, string version, uint256 chainId, address verifyingContract"),
    "HyperliquidTransaction:UsdSend": f("string hyperliquidChain, string destination, string amount, uint64 time"),
  }, "HyperliquidTransaction:UsdSend",
  { name: "HyperliquidSignTransaction", version: "1", chainId: 42161, verifyingContract: "0x0000000000000000000000000000000000000000" }, {
    hyperliquidChain: "Mainnet", destination: to, amount: "1.5", time: 1700000000000,
  }),
]);

const userOperationTypes = {
  PackedUserOperation: f("address sender, uint256 nonce, bytes initCode, bytes callData, bytes32 accountGasLimits, uint256 preVerificationGas, bytes32 gasFees, bytes paymasterAndData"),
};
const entryPoint = "0x4337084d9e255ff0702461cf8895ce9e3b5ff108";
const halves = (a, b) => concat([toBeHex(a, 16), toBeHex(b, 16)]);
function userOperation(comment, chainId, changes, delegate) {
  const op = {
    sender: to, nonce: q(2n ** 70n), initCode: "0x", callData: "0xb61d27f6" + "00".repeat(96),
    accountGasLimits: halves(150000, 60000), preVerificationGas: q(50000), gasFees: halves(gwei(1n), gwei(25n)), paymasterAndData: "0x",
    ...changes,
  };
  const hashed = delegate ? { ...op, initCode: concat([delegate, "0x" + op.initCode.slice(42)]) } : op;
  const domain = { name: "ERC4337", version: "1", chainId, verifyingContract: getAddress(entryPoint) };
  const digest = TypedDataEncoder.hash(domain, userOperationTypes, hashed);
  const request = { chainId: q(chainId), entryPoint, userOperation: op };
  if (delegate) request.delegate = delegate;
  return { comment, request, privateKey: wallet.privateKey, from: wallet.address, digest, signature: wallet.signingKey.sign(digest).serialized };
}
const factory = "0x91e60e0613810449d098b0b5ec8b51a0fe8c8985";
write("erc4337.json", "ERC-4337, entry point 0.8: https://eips.ethereum.org/EIPS/eip-4337", [
  userOperation("a deployed account", 1n, {}),
  userOperation("deployed by a factory, a paymaster pays", 8453n, {
    initCode: factory + "c0ffee", paymasterAndData: concat([to, halves(30000, 20000), "0xdeadbeef"]),
  }),
  userOperation("an EIP-7702 account, marker alone", 1n, { initCode: "0x7702" }, "0x63c0c19a282a1b52b07dd5a65b58948a07dae32b"),
  userOperation("an EIP-7702 account with init data", 1n, { initCode: "0x7702" + "00".repeat(18) + "abcdef" }, "0x63c0c19a282a1b52b07dd5a65b58948a07dae32b"),
]);
