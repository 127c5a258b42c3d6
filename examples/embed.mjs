// Double the frame rate of raw video with onnxruntime-web alone, in Node or, with other reading and writing, in a
// browser:
//
//   npm install onnxruntime-web
//   ffmpeg -i clip.mp4 -f rawvideo -pix_fmt rgb24 - | node examples/embed.mjs flavr_lite_2x.onnx 256 144 > smooth.rgb
//
// What flavr-run does besides (cuts, equal frames, tiles, colours, sound) is left out on purpose.
import { readFile } from "node:fs/promises";
import { exit, stdin, stdout } from "node:process";
import * as ort from "onnxruntime-web";

const [path, width, height] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const bytes = width * height * 3;
const session = await ort.InferenceSession.create(new Uint8Array(await readFile(path)), { executionProviders: ["wasm"] });

// RGB pictures, a Uint8Array each.
async function* frames() {
  let held = Buffer.alloc(0);
  for await (const chunk of stdin) {
    held = Buffer.concat([held, chunk]);
    for (; held.length >= bytes; held = held.subarray(bytes)) yield new Uint8Array(held.subarray(0, bytes));
  }
  if (held.length) {
    console.error(`the stream ends within a picture; are they ${width}x${height}, rgb24?`);
    exit(1);
  }
}

async function write(picture) {
  if (!stdout.write(picture)) await new Promise((resume) => stdout.once("drain", resume));
}

// frame0 .. frame3 in time order to mid1, mid2, ... between frame1 and frame2.
async function synthesise(window) {
  const feeds = Object.fromEntries(
    window.map((picture, i) => [`frame${i}`, new ort.Tensor("uint8", picture, [1, height, width, 3])]),
  );
  const made = await session.run(feeds);
  for (const name of session.outputNames) await write(made[name].data);
}

let window = [];
for await (const frame of frames()) {
  window = window.length ? [...window.slice(-3), frame] : [frame, frame]; // the first one is its own past
  if (window.length === 4) {
    await write(window[1]);
    await synthesise(window);
  }
}
if (window.length >= 3) {
  await write(window.at(-2));
  await synthesise([...window.slice(-3), window.at(-1)]); // the last one is its own future
}
if (window.length) await write(window.at(-1));
