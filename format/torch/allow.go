package torch

import "strings"

// Allowed says whether a restricted loader takes this global (as Mapped gives
// it): the names that torch.load(weights_only=True) knows
// (torch/_weights_only_unpickler.py). Reaching one of them runs no code of the
// checkpoint. A name with a dot is never one of them.
func Allowed(module, name string) bool {
	if strings.Contains(name, ".") {
		return false
	}
	switch module {
	case "collections":
		return name == "OrderedDict" || name == "Counter"
	case "_codecs":
		return name == "encode"
	case "builtins":
		return name == "bytearray" || name == "set" || name == "complex"
	case "torch.nn.parameter":
		return name == "Parameter"
	case "torch.serialization":
		return name == "_get_layout"
	case "torch._utils":
		return rebuildKind(module, name) != notRebuild && name != "_rebuild_nested_tensor"
	case "torch._tensor":
		return name == "_rebuild_from_type_v2"
	case "torch":
		return name == "Size" || name == "device" || isDTypeName(name) || isQScheme(name) || isTensorClass(module, name) ||
			isStorageClass(module, name)
	case "torch.storage":
		return name == "TypedStorage" || name == "_TypedStorage" || isStorageClass(module, name)
	case "torch.cuda", "torch.sparse", "torch.cuda.sparse":
		return isTensorClass(module, name) || isStorageClass(module, name)
	}
	return false
}

func isStorageClass(module, name string) bool {
	_, ok := classOf(module, name)
	return ok
}

// isTensorClass knows torch.Tensor and the classes of old releases
// (torch.FloatTensor, torch.cuda.sparse.HalfTensor, ...).
func isTensorClass(module, name string) bool {
	base, ok := strings.CutSuffix(name, "Tensor")
	if !ok {
		return false
	}
	switch base {
	case "":
		return module == "torch"
	case "Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool":
		return true
	}
	return false
}

func isQScheme(name string) bool {
	switch name {
	case "per_tensor_affine", "per_tensor_symmetric", "per_channel_affine", "per_channel_symmetric",
		"per_channel_affine_float_qparams":
		return true
	}
	return false
}

// isDTypeName knows the names of torch.dtype objects.
func isDTypeName(name string) bool {
	if _, ok := dtypeOf(name); ok {
		return true
	}
	switch name {
	case "complex128", "complex32", "cdouble", "chalf",
		"qint8", "qint32", "quint8", "quint4x2", "quint2x4",
		"bits8", "bits16", "bits1x8", "bits2x4", "bits4x2",
		"uint1", "uint2", "uint3", "uint4", "uint5", "uint6", "uint7",
		"int1", "int2", "int3", "int4", "int5", "int6", "int7":
		return true
	}
	return false
}

// Inert says whether a global is a class, or a function that makes an object
// of one, that is known to hold data only: a checkpoint that names it can be
// read without it, and only code is lost. What is not here, nobody vouches
// for.
func Inert(module, name string) bool {
	if Allowed(module, name) || strings.Contains(name, ".") {
		return false
	}
	names, ok := inertNames(module)
	if !ok {
		return false
	}
	for n := range strings.SplitSeq(names, " ") {
		if n == name {
			return true
		}
	}
	return false
}

// inertNames gives the names of a module, separated by spaces.
func inertNames(module string) (string, bool) {
	for _, table := range []func(string) string{inertPython, inertModules, inertTraining, inertNumpy} {
		if names := table(module); names != "" {
			return names, true
		}
	}
	return "", false
}

func inertPython(module string) string {
	switch module {
	case "argparse":
		return "Namespace"
	case "types":
		return "SimpleNamespace"
	case "collections":
		return "defaultdict deque"
	case "copyreg":
		return "_reconstructor"
	case "builtins":
		return "object dict list tuple int float str bytes bool frozenset slice range"
	case "datetime":
		return "datetime date time timedelta timezone"
	case "decimal":
		return "Decimal"
	case "fractions":
		return "Fraction"
	case "uuid":
		return "UUID"
	case "pathlib", "pathlib._local":
		return "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath"
	case "typing":
		return "Any"
	}
	return ""
}

// inertModules are torch's own layers (torch/nn/modules).
func inertModules(module string) string {
	switch sub, _ := strings.CutPrefix(module, "torch.nn.modules."); sub {
	case "activation":
		return "CELU ELU GELU GLU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid LogSoftmax Mish MultiheadAttention PReLU RReLU ReLU ReLU6 SELU SiLU Sigmoid Softmax Softmax2d Softmin Softplus Softshrink Softsign Tanh Tanhshrink Threshold"
	case "adaptive":
		return "AdaptiveLogSoftmaxWithLoss"
	case "batchnorm":
		return "BatchNorm1d BatchNorm2d BatchNorm3d LazyBatchNorm1d LazyBatchNorm2d LazyBatchNorm3d SyncBatchNorm"
	case "channelshuffle":
		return "ChannelShuffle"
	case "container":
		return "Container ModuleDict ModuleList ParameterDict ParameterList Sequential"
	case "conv":
		return "Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d LazyConv1d LazyConv2d LazyConv3d LazyConvTranspose1d LazyConvTranspose2d LazyConvTranspose3d"
	case "distance":
		return "CosineSimilarity PairwiseDistance"
	case "dropout":
		return "AlphaDropout Dropout Dropout1d Dropout2d Dropout3d FeatureAlphaDropout"
	case "flatten":
		return "Flatten Unflatten"
	case "fold":
		return "Fold Unfold"
	case "instancenorm":
		return "InstanceNorm1d InstanceNorm2d InstanceNorm3d LazyInstanceNorm1d LazyInstanceNorm2d LazyInstanceNorm3d"
	case "linear":
		return "Bilinear Identity LazyLinear Linear NonDynamicallyQuantizableLinear"
	case "loss":
		return "BCELoss BCEWithLogitsLoss CTCLoss CosineEmbeddingLoss CrossEntropyLoss GaussianNLLLoss HingeEmbeddingLoss HuberLoss KLDivLoss L1Loss MSELoss MarginRankingLoss MultiLabelMarginLoss MultiLabelSoftMarginLoss MultiMarginLoss NLLLoss NLLLoss2d PoissonNLLLoss SmoothL1Loss SoftMarginLoss TripletMarginLoss TripletMarginWithDistanceLoss"
	case "module":
		return "Module"
	case "normalization":
		return "CrossMapLRN2d GroupNorm LayerNorm LocalResponseNorm RMSNorm"
	case "padding":
		return "CircularPad1d CircularPad2d CircularPad3d ConstantPad1d ConstantPad2d ConstantPad3d ReflectionPad1d ReflectionPad2d ReflectionPad3d ReplicationPad1d ReplicationPad2d ReplicationPad3d ZeroPad1d ZeroPad2d ZeroPad3d"
	case "pixelshuffle":
		return "PixelShuffle PixelUnshuffle"
	case "pooling":
		return "AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d AvgPool1d AvgPool2d AvgPool3d FractionalMaxPool2d FractionalMaxPool3d LPPool1d LPPool2d LPPool3d MaxPool1d MaxPool2d MaxPool3d MaxUnpool1d MaxUnpool2d MaxUnpool3d"
	case "rnn":
		return "GRU GRUCell LSTM LSTMCell RNN RNNCell"
	case "sparse":
		return "Embedding EmbeddingBag"
	case "transformer":
		return "Transformer TransformerDecoder TransformerDecoderLayer TransformerEncoder TransformerEncoderLayer"
	case "upsampling":
		return "Upsample UpsamplingBilinear2d UpsamplingNearest2d"
	}
	switch module {
	case "torch.nn.utils.weight_norm":
		return "WeightNorm"
	case "torch.nn.utils.spectral_norm":
		return "SpectralNorm SpectralNormLoadStateDictPreHook SpectralNormStateDictHook"
	case "torch.jit._pickle":
		return "build_boollist build_doublelist build_intlist build_tensor_from_id build_tensorlist restore_type_tag"
	case "torch.nn.backends.thnn":
		return "_get_thnn_function_backend"
	case "torch.nn.parallel.data_parallel":
		return "DataParallel"
	case "torch.nn.parallel.distributed":
		return "DistributedDataParallel"
	}
	return ""
}

// inertTraining are what training loops leave in checkpoints: optimisers,
// schedules, callbacks, configurations.
func inertTraining(module string) string {
	switch module {
	case "torch.optim.adadelta":
		return "Adadelta"
	case "torch.optim.adagrad":
		return "Adagrad"
	case "torch.optim.adam":
		return "Adam"
	case "torch.optim.adamax":
		return "Adamax"
	case "torch.optim.adamw":
		return "AdamW"
	case "torch.optim.asgd":
		return "ASGD"
	case "torch.optim.nadam":
		return "NAdam"
	case "torch.optim.radam":
		return "RAdam"
	case "torch.optim.rmsprop":
		return "RMSprop"
	case "torch.optim.rprop":
		return "Rprop"
	case "torch.optim.sgd":
		return "SGD"
	case "torch.optim.sparse_adam":
		return "SparseAdam"
	case "torch.optim.lr_scheduler":
		return "ChainedScheduler ConstantLR CosineAnnealingLR CosineAnnealingWarmRestarts CyclicLR ExponentialLR LinearLR MultiStepLR OneCycleLR PolynomialLR ReduceLROnPlateau SequentialLR StepLR"
	case "torch.torch_version":
		return "TorchVersion"
	case "pytorch_lightning.callbacks.model_checkpoint", "lightning.pytorch.callbacks.model_checkpoint":
		return "ModelCheckpoint"
	case "pytorch_lightning.callbacks.early_stopping", "lightning.pytorch.callbacks.early_stopping":
		return "EarlyStopping"
	case "pytorch_lightning.utilities.parsing", "lightning.pytorch.utilities.parsing",
		"lightning_fabric.utilities.data", "lightning.fabric.utilities.data":
		return "AttributeDict"
	case "omegaconf.dictconfig":
		return "DictConfig"
	case "omegaconf.listconfig":
		return "ListConfig"
	case "omegaconf.base":
		return "Container ContainerMetadata Metadata"
	case "omegaconf.nodes":
		return "AnyNode BooleanNode BytesNode FloatNode IntegerNode PathNode StringNode"
	}
	return ""
}

func inertNumpy(module string) string {
	switch module {
	case "numpy":
		return "dtype ndarray bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128 str_ bytes_"
	case "numpy.core.multiarray", "numpy._core.multiarray":
		return "_reconstruct scalar"
	case "numpy.core.numeric", "numpy._core.numeric":
		return "_frombuffer"
	}
	if sub, ok := strings.CutPrefix(module, "numpy.dtypes"); ok && sub == "" {
		return "BoolDType Int8DType Int16DType Int32DType Int64DType UInt8DType UInt16DType UInt32DType UInt64DType Float16DType Float32DType Float64DType Complex64DType Complex128DType"
	}
	return ""
}
