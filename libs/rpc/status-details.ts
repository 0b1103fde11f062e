import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { AnySchema, DurationSchema } from "@bufbuild/protobuf/wkt";
import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import type { FieldViolation } from "#libs/errors/errors.js";

/** What a gRPC status can carry beside its code and message. */
export interface StatusDetails {
  readonly violations?: readonly FieldViolation[];
  readonly retryDelayMs?: number;
  readonly errorId?: string;
}

const PREFIX = "type.googleapis.com/google.rpc.";

/**
 * The bytes of `grpc-status-details-bin`: a google.rpc.Status with BadRequest, RetryInfo and RequestInfo details, as far
 * as given. Written field by field, because these types come with no npm package that generates for protobuf-es.
 * @see https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto
 */
export function encodeStatusDetails(code: number, message: string, details: StatusDetails): Uint8Array {
  const status = new BinaryWriter().uint32(tag(1, WireType.Varint)).int32(code).uint32(tag(2)).string(message);
  const add = (type: string, value: Uint8Array) => {
    status.uint32(tag(3)).bytes(toBinary(AnySchema, create(AnySchema, { typeUrl: PREFIX + type, value })));
  };
  if (details.violations?.length) add("BadRequest", encodeBadRequest(details.violations));
  if (details.retryDelayMs !== undefined) add("RetryInfo", encodeRetryInfo(details.retryDelayMs));
  if (details.errorId !== undefined) add("RequestInfo", new BinaryWriter().uint32(tag(1)).string(details.errorId).finish());
  return status.finish();
}

/** The details in such bytes; what is unknown or malformed is left out, for they come from anywhere. */
export function decodeStatusDetails(bytes: Uint8Array): StatusDetails {
  const details: { -readonly [K in keyof StatusDetails]: StatusDetails[K] } = {};
  try {
    for (const any of lengthDelimited(bytes, 3)) {
      const { typeUrl, value } = fromBinary(AnySchema, any);
      if (typeUrl === `${PREFIX}BadRequest`) details.violations = lengthDelimited(value, 1).map(decodeViolation);
      if (typeUrl === `${PREFIX}RetryInfo`) details.retryDelayMs = decodeRetryInfo(value);
      if (typeUrl === `${PREFIX}RequestInfo`) details.errorId = text(value, 1);
    }
  } catch {
    // A broken trailer must not hide the status it came with.
  }
  return details;
}

function tag(field: number, type: WireType = WireType.LengthDelimited): number {
  return (field << 3) | type;
}

function encodeBadRequest(violations: readonly FieldViolation[]): Uint8Array {
  const badRequest = new BinaryWriter();
  for (const { field, description } of violations) {
    badRequest.uint32(tag(1)).fork().uint32(tag(1)).string(field).uint32(tag(2)).string(description).join();
  }
  return badRequest.finish();
}

function decodeViolation(bytes: Uint8Array): FieldViolation {
  return { field: text(bytes, 1), description: text(bytes, 2) };
}

function encodeRetryInfo(delayMs: number): Uint8Array {
  const duration = create(DurationSchema, {
    seconds: BigInt(Math.floor(delayMs / 1000)),
    nanos: Math.round((delayMs % 1000) * 1e6),
  });
  return new BinaryWriter().uint32(tag(1)).bytes(toBinary(DurationSchema, duration)).finish();
}

function decodeRetryInfo(bytes: Uint8Array): number {
  const [duration = new Uint8Array()] = lengthDelimited(bytes, 1);
  const { seconds, nanos } = fromBinary(DurationSchema, duration);
  return Number(seconds) * 1000 + nanos / 1e6;
}

/** All length-delimited values of one field of a message, in order. */
function lengthDelimited(bytes: Uint8Array, field: number): Uint8Array[] {
  const values: Uint8Array[] = [];
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    if (number === field && type === WireType.LengthDelimited) values.push(reader.bytes());
    else reader.skip(type, number);
  }
  return values;
}

function text(bytes: Uint8Array, field: number): string {
  return new TextDecoder().decode(lengthDelimited(bytes, field).at(-1));
}
