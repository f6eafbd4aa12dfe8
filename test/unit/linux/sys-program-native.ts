/** `exercise` as the program of an executable of the native runtime: it tells on stdout. */

import { sys } from '../../../linux/sys-native.ts';
import { exercise } from './sys-program.ts';

const told = sys.encodeUtf8(JSON.stringify(exercise(sys, sys.argv[1] ?? '')));
sys.write(1, told, 0, told.byteLength);
sys.exit(0);
